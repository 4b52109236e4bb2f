// Command worker runs the workflows and activities of orders until Ctrl-C.
package main

import (
	"flag"
	"fmt"
	"log/slog"
	"os"

	"go.temporal.io/sdk/worker"

	"github.com/perdure/perdure/examples/connect"
	"github.com/perdure/perdure/examples/order"
)

func main() {
	server := connect.Flags()
	flag.Parse()
	if err := run(server); err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
}

func run(server *connect.Options) error {
	c, err := server.Client()
	if err != nil {
		return err
	}
	defer c.Close()
	w := worker.New(c, order.TaskQueue, worker.Options{})
	order.Register(w, &order.Shop{Log: slog.Default(), Limit: 1_000_000})
	fmt.Println("waiting for orders; Ctrl-C to stop")
	return w.Run(worker.InterruptCh())
}
