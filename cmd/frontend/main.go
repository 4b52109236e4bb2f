// Command frontend runs the frontend service of a cluster: the public API: it validates requests, limits them and sends them to the service that owns what they are about.
package main

import (
	"github.com/spf13/pflag"

	"github.com/perdure/perdure/server"
	service "github.com/perdure/perdure/service/frontend"
)

func main() {
	var o server.Options
	server.Main("frontend", "Run the frontend service: the public API: it validates requests, limits them and sends them to the service that owns what they are about", &o, server.Services{Frontend: true}, func(f *pflag.FlagSet) {
		o.AddAddressFlags(f, "127.0.0.1:7233", "127.0.0.1:7243")
		o.AddFrontendFlags(f)
		o.AddLoadFlags(f, service.DefaultLoadLimits())
	})
}
