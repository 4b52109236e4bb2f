// Package order is an example: an order is paid for, packed and shipped by a durable workflow. Stop the worker or the server at
// any moment and start it again: the order goes on from where it was, and nobody pays twice for a step that was done.
package order

import (
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// TaskQueue is where the worker of this example listens.
const TaskQueue = "orders"

// WorkflowType is the name under which [Process] is registered: clients of any language start it by this name.
const WorkflowType = "process-order"

// Order is what a customer wants.
type Order struct {
	ID       string
	Customer string
	Items    []Item
	// PackingTime is how long the parcel rests before it is shipped: time to try a crash.
	PackingTime time.Duration
}

// Item is a line of an order; Price is in cents.
type Item struct {
	Name     string
	Quantity int
	Price    int
}

// Receipt is the result of an order; Total is in cents.
type Receipt struct {
	OrderID  string
	Total    int
	Payment  string
	Tracking string
}

// Process is the workflow. It may use only deterministic code: what touches the world is an activity.
func Process(ctx workflow.Context, o Order) (Receipt, error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		// How long one attempt may take, how long it may wait for a worker, all attempts together, and how often a long one
		// must say that it is alive.
		StartToCloseTimeout:    10 * time.Second,
		ScheduleToStartTimeout: time.Minute,
		ScheduleToCloseTimeout: 5 * time.Minute,
		HeartbeatTimeout:       5 * time.Second,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval:        100 * time.Millisecond,
			BackoffCoefficient:     2,
			MaximumInterval:        10 * time.Second,
			MaximumAttempts:        10,
			NonRetryableErrorTypes: []string{DeclinedError},
		},
	})
	receipt := Receipt{OrderID: o.ID}
	for _, item := range o.Items {
		receipt.Total += item.Quantity * item.Price
	}
	charge := Charge{OrderID: o.ID, Customer: o.Customer, Amount: receipt.Total}
	if err := workflow.ExecuteActivity(ctx, ChargeActivity, charge).Get(ctx, &receipt.Payment); err != nil {
		return Receipt{}, err
	}
	// A durable timer: it needs no worker and no memory while it runs.
	if err := workflow.Sleep(ctx, o.PackingTime); err != nil {
		return Receipt{}, err
	}
	if err := workflow.ExecuteActivity(ctx, ShipActivity, o).Get(ctx, &receipt.Tracking); err != nil {
		return Receipt{}, err
	}
	return receipt, nil
}
