// Package e2e runs the real binaries as a user would, and drives them with the Go SDK.
package e2e

import (
	"os"
	"testing"

	"github.com/perdure/perdure/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m, "cmd/...", "examples/order/...")) }
