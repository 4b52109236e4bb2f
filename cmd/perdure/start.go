package main

import (
	"github.com/spf13/cobra"

	"github.com/perdure/perdure/server"
	"github.com/perdure/perdure/service/frontend"
)

func startCommand() *cobra.Command {
	var o server.Options
	cmd := &cobra.Command{
		Use:   "start",
		Short: "Run all services in one process on PostgreSQL",
		Long: `Runs frontend, history and matching in one process on a PostgreSQL database
(version 15 or newer). The schema is created or migrated at start, under a lock, so
several processes may start at once. They form a cluster and share the work.

Every flag can also be set by an environment variable (PERDURE_POSTGRES for --postgres)
or in the file that --config names.`,
		Example: `  perdure server start --postgres postgres://perdure:secret@localhost:5432/perdure`,
		Args:    cobra.NoArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) error { return server.CompleteAndValidate(cmd, &o) },
		RunE: func(cmd *cobra.Command, _ []string) error {
			return server.Run(cmd.Context(), o, server.AllServices)
		},
	}
	o.AddFlags(cmd.Flags())
	o.AddStoreFlags(cmd.Flags())
	o.AddMemberFlags(cmd.Flags())
	o.AddInternalFlags(cmd.Flags())
	o.AddAddressFlags(cmd.Flags(), "127.0.0.1:7233", "127.0.0.1:7243")
	o.AddFrontendFlags(cmd.Flags())
	o.AddLoadFlags(cmd.Flags(), frontend.DefaultLoadLimits())
	o.AddMatchingFlags(cmd.Flags())
	return cmd
}
