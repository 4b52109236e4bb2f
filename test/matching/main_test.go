// Package matching proves what task queues promise on real processes and real stores: that limits, settings, fairness and deep backlogs
// survive kill -9 of whoever owns them. What can be shown in virtual time is shown in service/matching.
package matching

import (
	"os"
	"testing"

	"github.com/perdure/perdure/test/harness"
)

func TestMain(m *testing.M) {
	os.Exit(harness.Main(m, "cmd/perdure", "cmd/frontend", "cmd/history", "cmd/matching"))
}
