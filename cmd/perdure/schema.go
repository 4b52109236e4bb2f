package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/persistence/sql/postgres"
	"github.com/perdure/perdure/server"
)

func schemaCommand() *cobra.Command {
	var o server.Options
	cmd := &cobra.Command{
		Use:   "schema",
		Short: "Look after the schema of a PostgreSQL database",
		Long: `Looks after the schema of a PostgreSQL database.

"server start" and the services migrate by themselves; these commands are for those who
want to do it beforehand, with other rights.`,
	}
	complete := func(cmd *cobra.Command, _ []string) error { return server.CompleteAndValidate(cmd, &o) }
	status := &cobra.Command{
		Use: "status", Short: "Print the version of the schema and of this binary", Args: cobra.NoArgs, PreRunE: complete,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := postgres.ReadSchemaStatus(cmd.Context(), postgres.Options{URL: o.Postgres})
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "schema version %d, this binary knows %d\n", s.Database, s.Binary)
			return nil
		},
	}
	migrate := &cobra.Command{
		Use: "migrate", Short: "Create the schema or bring it up to date", Args: cobra.NoArgs, PreRunE: complete,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := postgres.Migrate(cmd.Context(), postgres.Options{URL: o.Postgres})
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "schema version %d\n", s.Database)
			return nil
		},
	}
	for _, c := range []*cobra.Command{status, migrate} {
		o.AddFlags(c.Flags())
		o.AddStoreFlags(c.Flags())
	}
	cmd.AddCommand(status, migrate)
	return cmd
}
