package main

import (
	"github.com/perdure/perdure/server"
	"github.com/spf13/cobra"
)

func healthcheckCommand() *cobra.Command { return server.HealthcheckCommand("127.0.0.1:7243") }
