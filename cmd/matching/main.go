// Command matching runs the matching service of a cluster: task queues: it brings tasks and pollers together.
package main

import (
	"github.com/perdure/perdure/server"
	"github.com/spf13/pflag"
)

func main() {
	var o server.Options
	server.Main("matching", "Run the matching service: task queues: it brings tasks and pollers together", &o, server.Services{Matching: true}, func(f *pflag.FlagSet) {
		o.AddAddressFlags(f, "127.0.0.1:7235", "127.0.0.1:7245")
		o.AddAdvertiseFlag(f, "--grpc-address")
		o.AddMatchingFlags(f)
	})
}
