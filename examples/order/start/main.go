// Command start places an order and waits for its receipt.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/perdure/perdure/examples/connect"
	"github.com/perdure/perdure/examples/order"
)

func main() {
	server := connect.Flags()
	id := flag.String("id", "order-"+time.Now().Format("150405"), "the order's id, and the workflow's: the same id again is the same order")
	packing := flag.Duration("packing", 2*time.Second, "how long packing takes; choose 30s to have time for a crash")
	wait := flag.Bool("wait", true, "wait for the receipt")
	flag.Parse()
	if err := run(server, *id, *packing, *wait); err != nil {
		fmt.Fprintln(os.Stderr, "start:", err)
		os.Exit(1)
	}
}

func run(server *connect.Options, id string, packing time.Duration, wait bool) error {
	ctx := context.Background()
	c, err := server.Client()
	if err != nil {
		return err
	}
	defer c.Close()
	o := order.Order{
		ID: id, Customer: "Ada", PackingTime: packing,
		Items: []order.Item{{Name: "teapot", Quantity: 1, Price: 2900}, {Name: "cup", Quantity: 4, Price: 650}},
	}
	r, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: id, TaskQueue: order.TaskQueue}, order.WorkflowType, o)
	if err != nil {
		return err
	}
	fmt.Printf("workflow %s runs (run %s)\n", r.GetID(), r.GetRunID())
	if !wait {
		return nil
	}
	var receipt order.Receipt
	if err := r.Get(ctx, &receipt); err != nil {
		return err
	}
	fmt.Printf("%+v\n", receipt)
	return nil
}
