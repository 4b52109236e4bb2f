package pgtest

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// CPU is the time that the server's processes have used so far, those that have ended included. It is 0 on systems without /proc.
func (s *Server) CPU(t testing.TB) time.Duration {
	t.Helper()
	const ticksPerSecond = 100 // of Linux, for every architecture that Go knows
	postmaster := strconv.Itoa(s.cmd.Process.Pid)
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	ticks := 0
	for _, path := range stats {
		content, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		_, rest, found := strings.Cut(string(content), ") ")
		fields := strings.Fields(rest) // from the third field on: state, parent, …
		if !found || len(fields) < 15 {
			continue
		}
		own := filepath.Base(filepath.Dir(path)) == postmaster
		if !own && fields[1] != postmaster {
			continue
		}
		used := fields[11:13] // user and system time
		if own {
			used = fields[11:15] // and those of the children that have ended
		}
		for _, field := range used {
			n, err := strconv.Atoi(field)
			if err != nil {
				t.Fatalf("pgtest: %s: %v", path, err)
			}
			ticks += n
		}
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond
}
