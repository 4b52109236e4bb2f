// Command result waits for the receipt of an order that another process has placed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/perdure/perdure/examples/connect"
	"github.com/perdure/perdure/examples/order"
)

func main() {
	server := connect.Flags()
	id := flag.String("id", "", "the order's id")
	flag.Parse()
	if err := run(server, *id); err != nil {
		fmt.Fprintln(os.Stderr, "result:", err)
		os.Exit(1)
	}
}

func run(server *connect.Options, id string) error {
	if id == "" {
		return errors.New("-id is missing: which order?")
	}
	c, err := server.Client()
	if err != nil {
		return err
	}
	defer c.Close()
	var receipt order.Receipt
	if err := c.GetWorkflow(context.Background(), id, "").Get(context.Background(), &receipt); err != nil {
		return err
	}
	fmt.Printf("%+v\n", receipt)
	return nil
}
