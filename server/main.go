package server

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Main is the main function of a binary that runs one service: flags, environment, config file, and then [Run] until the
// process is told to stop. It exits.
func Main(name, short string, o *Options, services Services, flags func(*pflag.FlagSet)) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cmd := &cobra.Command{
		Use:           name,
		Short:         short,
		Version:       Version,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		PreRunE:       func(cmd *cobra.Command, _ []string) error { return CompleteAndValidate(cmd, o) },
		RunE:          func(cmd *cobra.Command, _ []string) error { return Run(cmd.Context(), *o, services) },
	}
	o.AddFlags(cmd.Flags())
	o.AddStoreFlags(cmd.Flags())
	o.AddMemberFlags(cmd.Flags())
	flags(cmd.Flags())
	cmd.CompletionOptions.DisableDefaultCmd = true
	if f := cmd.Flags().Lookup("http-address"); f != nil {
		cmd.AddCommand(HealthcheckCommand(f.DefValue))
	}
	if err := cmd.ExecuteContext(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// CompleteAndValidate fills and checks the options of a process on PostgreSQL.
func CompleteAndValidate(cmd *cobra.Command, o *Options) error {
	if err := Complete(cmd, &o.ConfigFile); err != nil {
		return err
	}
	if o.Postgres == "" {
		return fmt.Errorf("--postgres is missing: the URL of the database, like postgres://user:password@host:5432/perdure (or set %sPOSTGRES)", envPrefix)
	}
	return o.Validate()
}
