// Command history runs the history service of a cluster: the state of workflow executions: transitions, timers and their effects.
package main

import (
	"github.com/perdure/perdure/server"
	"github.com/spf13/pflag"
)

func main() {
	var o server.Options
	server.Main("history", "Run the history service: the state of workflow executions: transitions, timers and their effects", &o, server.Services{History: true}, func(f *pflag.FlagSet) {
		o.AddAddressFlags(f, "127.0.0.1:7234", "127.0.0.1:7244")
		o.AddAdvertiseFlag(f, "--grpc-address")
	})
}
