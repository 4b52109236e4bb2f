package order

import (
	"context"
	"fmt"
	"log/slog"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// Names of the activities, as the workflow and other languages know them.
const (
	ChargeActivity = "shop-charge"
	ShipActivity   = "shop-ship"
	// DeclinedError is the type of a failure that no retry can mend.
	DeclinedError = "card-declined"
)

// Charge is the input of the charge activity; Amount is in cents.
type Charge struct {
	OrderID  string
	Customer string
	Amount   int
}

// Shop holds what the activities share: connections, clients, configuration. One Shop serves all activities of a worker.
type Shop struct {
	Log *slog.Logger
	// Limit is the most that a card is good for, in cents; 0: any amount.
	Limit int
}

// Charge takes the money and returns the payment's reference. The order's id makes it idempotent: an attempt whose answer was
// lost may be made again.
func (s *Shop) Charge(ctx context.Context, c Charge) (string, error) {
	if s.Limit > 0 && c.Amount > s.Limit {
		return "", temporal.NewNonRetryableApplicationError(fmt.Sprintf("the card of %s is not good for %d", c.Customer, c.Amount), DeclinedError, nil)
	}
	s.Log.Info("charged", "order", c.OrderID, "amount", c.Amount, "attempt", activity.GetInfo(ctx).Attempt)
	return "payment-" + c.OrderID, nil
}

// Ship hands the parcel to the carrier and returns the tracking number.
func (s *Shop) Ship(ctx context.Context, o Order) (string, error) {
	for i, item := range o.Items {
		activity.RecordHeartbeat(ctx, i)
		s.Log.Info("packed", "order", o.ID, "item", item.Name)
	}
	return "track-" + o.ID, nil
}

// Register tells a worker what it can do, under the names that clients use.
func Register(w worker.Worker, shop *Shop) {
	w.RegisterWorkflowWithOptions(Process, workflow.RegisterOptions{Name: WorkflowType})
	w.RegisterActivityWithOptions(shop.Charge, activity.RegisterOptions{Name: ChargeActivity})
	w.RegisterActivityWithOptions(shop.Ship, activity.RegisterOptions{Name: ShipActivity})
}
