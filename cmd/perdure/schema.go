package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/persistence/sql/postgres"
	"github.com/perdure/perdure/schema"
	"github.com/perdure/perdure/server"
)

func schemaCommand() *cobra.Command {
	var o server.Options
	dryRun := false
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
			if dryRun {
				return printPending(cmd, o.Postgres)
			}
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
	migrate.Flags().BoolVar(&dryRun, "dry-run", false, "print the migrations that are missing, with their SQL, and change nothing")
	cmd.AddCommand(status, migrate)
	return cmd
}

// printPending prints what a migration would run.
func printPending(cmd *cobra.Command, url string) error {
	s, err := postgres.ReadSchemaStatus(cmd.Context(), postgres.Options{URL: url})
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if s.Database > s.Binary {
		return fmt.Errorf("the database has schema version %d, this binary knows versions up to %d; use a newer binary", s.Database, s.Binary)
	}
	if s.Database == s.Binary {
		fmt.Fprintf(out, "schema version %d, nothing to do\n", s.Database)
		return nil
	}
	for _, m := range schema.Postgres()[s.Database:] {
		fmt.Fprintf(out, "-- version %d: %s\n%s\n", m.Version, m.Name, m.SQL)
	}
	fmt.Fprintf(out, "-- schema version %d would become %d\n", s.Database, s.Binary)
	return nil
}
