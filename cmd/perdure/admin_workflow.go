package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/admin"
	"github.com/perdure/perdure/persistence"
)

func adminShowCommand() *cobra.Command {
	var namespace, workflowID, runID string
	cmd := new(database).command(&cobra.Command{
		Use:   "show",
		Short: "Print the stored state of a workflow run as JSON",
		Long: `Prints the stored state of a workflow run as JSON: its row, its parts, what they make
pending, its visibility row and its transitions, and which invariants it breaks. Payloads
that are part of the state are shown; those of the history are not.`,
		Example: `  perdure admin workflow show --db-filename perdure.db --workflow-id order-1`,
	}, func(ctx context.Context, store inspected, out io.Writer) error {
		if workflowID == "" {
			return errors.New("--workflow-id is missing")
		}
		n, err := store.GetNamespace(ctx, "", namespace)
		if errors.Is(err, persistence.ErrNotFound) {
			return fmt.Errorf("there is no namespace %q", namespace)
		}
		if err != nil {
			return err
		}
		key := persistence.ExecutionKey{NamespaceID: n.ID, Kind: persistence.KindWorkflow, BusinessID: workflowID}
		stored, err := admin.Show(ctx, store, key, runID)
		if errors.Is(err, persistence.ErrNotFound) {
			return fmt.Errorf("there is no such run of workflow %q in namespace %q", workflowID, namespace)
		}
		if err != nil {
			return err
		}
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(stored)
	})
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "default", "`name` of the namespace")
	cmd.Flags().StringVarP(&workflowID, "workflow-id", "w", "", "`id` of the workflow")
	cmd.Flags().StringVarP(&runID, "run-id", "r", "", "`id` of the run (default: the newest)")
	return cmd
}
