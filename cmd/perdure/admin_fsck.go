package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/admin"
)

const (
	// progressEvery is how often a check says how far it is.
	progressEvery = 5 * time.Second
	// violationsPrinted bounds what one check prints: a database with more has one cause, which these show.
	violationsPrinted = 10_000
)

func adminFsckCommand() *cobra.Command {
	asJSON := false
	var cmd *cobra.Command
	cmd = new(database).command(&cobra.Command{
		Use:   "fsck",
		Short: "Verify the invariants of everything that is stored",
		Long: `Verifies the invariants of everything that is stored: that histories are dense, that
snapshots are what the transitions add up to, that every run is listed as what it is, that
nothing pending can be forgotten, and so on. docs/operations.md explains each check.

Each violation is one line on standard output, progress goes to standard error. The exit
code is 1 if there is a violation. It reads the whole database, in pages, and may run
beside servers.`,
		Example: `  perdure admin fsck --postgres postgres://perdure:secret@localhost:5432/perdure`,
	}, func(ctx context.Context, store inspected, out io.Writer) error {
		return fsck(ctx, store, printer(out, asJSON), cmd.ErrOrStderr())
	})
	cmd.Flags().BoolVar(&asJSON, "json", false, "print violations as JSON, one object in each line")
	return cmd
}

// printer prints violations.
func printer(out io.Writer, asJSON bool) func(admin.Violation) {
	encoder := json.NewEncoder(out)
	printed := 0
	return func(v admin.Violation) {
		if printed++; printed > violationsPrinted {
			return
		}
		if asJSON {
			_ = encoder.Encode(v) // nobody reads any more: the exit code still tells
			return
		}
		fmt.Fprintln(out, v)
	}
}

func fsck(ctx context.Context, store inspected, violation func(admin.Violation), progress io.Writer) error {
	said := time.Now()
	counts, err := admin.Fsck(ctx, store, admin.Options{
		Violation: violation,
		Progress: func(c admin.Counts) {
			if time.Since(said) >= progressEvery {
				said = time.Now()
				fmt.Fprintf(progress, "checked %d runs, %d violations so far\n", c.Runs, c.Violations)
			}
		},
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(progress, "checked %d runs, %d transitions, %d events: %d violations\n", counts.Runs, counts.Transitions, counts.Events, counts.Violations)
	if counts.Leftovers > 0 {
		fmt.Fprintf(progress, "%d interrupted resets have left rows behind, which take room and do no harm\n", counts.Leftovers)
	}
	if counts.Unknown > 0 {
		fmt.Fprintf(progress, "%d runs are of a kind that this binary does not know: only their rows were checked\n", counts.Unknown)
	}
	if counts.Violations > 0 {
		return fmt.Errorf("the database breaks its invariants: %d violations", counts.Violations)
	}
	return nil
}
