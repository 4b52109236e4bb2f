package faults

import (
	"os"
	"testing"

	"github.com/perdure/perdure/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m, "cmd/...")) }
