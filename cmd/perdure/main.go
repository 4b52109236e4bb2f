// Command perdure is the whole product in one binary: the development server, all services on PostgreSQL in one process, and
// the tools for the database's schema.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/server"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := root().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "perdure:", err)
		os.Exit(1)
	}
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "perdure",
		Short:         "A durable-execution server for programs written with Temporal SDKs",
		Version:       server.Version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.AddCommand(serverCommand(), schemaCommand(), adminCommand(), healthcheckCommand())
	return cmd
}

func serverCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "server", Short: "Run a server"}
	cmd.AddCommand(startDevCommand(), startCommand())
	return cmd
}
