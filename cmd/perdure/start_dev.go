package main

import (
	"github.com/spf13/cobra"

	"github.com/perdure/perdure/server"
)

func startDevCommand() *cobra.Command {
	var o server.DevOptions
	cmd := &cobra.Command{
		Use:   "start-dev",
		Short: "Run the development server: everything in one process, nothing to install",
		Long: `Runs a whole server in one process, with the Web UI and an embedded database.

State is kept in memory and lost on exit, unless --db-filename names a file. The file
survives a crash or kill -9: start the server again and workflows go on.

Every flag can also be set by an environment variable (PERDURE_PORT for --port) or in
the file that --config names.`,
		Example: `  perdure server start-dev
  perdure server start-dev --db-filename perdure.db --namespace orders --namespace billing
  perdure server start-dev --headless --port 7300 --log-level info`,
		Args: cobra.NoArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := server.Complete(cmd, &o.ConfigFile); err != nil {
				return err
			}
			return o.Validate()
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return server.RunDev(cmd.Context(), o, cmd.OutOrStdout())
		},
	}
	o.AddFlags(cmd.Flags())
	return cmd
}
