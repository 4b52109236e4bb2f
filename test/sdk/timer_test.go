package sdk

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

var timerFeatures = group{"timer", map[string]func(*env){
	"order":    timerOrder,
	"cancel":   timerCancel,
	"duration": timerDuration,
	"await":    timerAwait,
	"short":    timerShort,
	"selector": selectorMix,
	"default":  selectorDefault,
}}

// Timers fire in the order of their times, not of their making.
func timerOrder(e *env) {
	const unit = 200 * time.Millisecond
	e.work(code{"main": func(ctx workflow.Context) error {
		var timers []workflow.Future
		for _, n := range []int{9, 3, 6, 1, 7} {
			timers = append(timers, workflow.NewTimer(ctx, time.Duration(n)*unit))
		}
		for _, timer := range timers {
			if err := timer.Get(ctx, nil); err != nil {
				return err
			}
		}
		return nil
	}})
	run := e.start("main")
	e.done(run)
	h := e.history(run)
	var fired []time.Duration
	for _, event := range h.all(enumspb.EVENT_TYPE_TIMER_FIRED) {
		started := h[event.GetTimerFiredEventAttributes().StartedEventId-1]
		fired = append(fired, started.GetTimerStartedEventAttributes().StartToFireTimeout.AsDuration()/unit)
	}
	require.Equal(e, []time.Duration{1, 3, 6, 7, 9}, fired)
}

func timerCancel(e *env) {
	e.work(code{"main": func(ctx workflow.Context) error {
		cancellable, cancel := workflow.WithCancel(ctx)
		timer := workflow.NewTimer(cancellable, long)
		if err := workflow.Sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
		cancel()
		return check(errors.As(timer.Get(ctx, nil), new(*temporal.CanceledError)), "the timer was not cancelled")
	}})
	run := e.start("main")
	e.done(run)
	e.history(run).one(e, enumspb.EVENT_TYPE_TIMER_CANCELED)
}

// A timer fires neither early nor, on any machine that works, ten seconds late; the workflow's clock agrees.
func timerDuration(e *env) {
	e.work(code{"main": func(ctx workflow.Context) (time.Duration, error) {
		before := workflow.Now(ctx)
		err := workflow.Sleep(ctx, 700*time.Millisecond)
		return workflow.Now(ctx).Sub(before), err
	}})
	run := e.start("main")
	took := result[time.Duration](e, run)
	require.GreaterOrEqual(e, took, 700*time.Millisecond)
	require.Less(e, took, 10*time.Second)
	h := e.history(run)
	started, fired := h.one(e, enumspb.EVENT_TYPE_TIMER_STARTED), h.one(e, enumspb.EVENT_TYPE_TIMER_FIRED)
	require.GreaterOrEqual(e, fired.EventTime.AsTime().Sub(started.EventTime.AsTime()), 700*time.Millisecond)
	require.Equal(e, started.EventId, fired.GetTimerFiredEventAttributes().StartedEventId)
}

// Short timers one after the other are as short as asked: none waits for a tick of some clock.
func timerShort(e *env) {
	const count = 20
	e.work(code{"main": func(ctx workflow.Context) error {
		for range count {
			if err := workflow.Sleep(ctx, 20*time.Millisecond); err != nil {
				return err
			}
		}
		return nil
	}})
	run := e.start("main")
	e.done(run)
	h := e.history(run)
	started, fired := h.all(enumspb.EVENT_TYPE_TIMER_STARTED), h.all(enumspb.EVENT_TYPE_TIMER_FIRED)
	require.Len(e, fired, count)
	var took []time.Duration
	for i := range fired {
		took = append(took, fired[i].EventTime.AsTime().Sub(started[i].EventTime.AsTime()))
	}
	slices.Sort(took)
	require.GreaterOrEqual(e, took[0], 20*time.Millisecond)
	// By chance a few may come just before a tick; a busy machine delays many. The quickest quarter is neither.
	require.Less(e, took[count/4], time.Second/4)
}

func timerAwait(e *env) {
	e.work(code{"main": func(ctx workflow.Context) error {
		ok, err := workflow.AwaitWithTimeout(ctx, 10*time.Millisecond, func() bool { return false })
		if ok || err != nil {
			return errors.Join(errors.New("the wait did not time out"), err)
		}
		ready := false
		workflow.Go(ctx, func(ctx workflow.Context) {
			workflow.GetSignalChannel(ctx, "ready").Receive(ctx, nil)
			ready = true
		})
		ok, err = workflow.AwaitWithTimeout(ctx, long, func() bool { return ready })
		return errors.Join(err, check(ok, "the wait timed out"))
	}})
	run := e.start("main")
	e.signal(run, "ready", nil)
	e.done(run)
}

// A selector takes what comes first, of activities, timers and signals.
func selectorMix(e *env) {
	e.work(code{
		"act": func(ctx context.Context) error { return nil },
		"main": func(ctx workflow.Context) (order []string, err error) {
			ctx = withActivity(ctx)
			selector := workflow.NewSelector(ctx)
			selector.AddFuture(workflow.ExecuteActivity(ctx, "act"), func(f workflow.Future) { order = append(order, "activity") })
			selector.AddFuture(workflow.NewTimer(ctx, long), func(workflow.Future) { order = append(order, "never") })
			selector.AddReceive(workflow.GetSignalChannel(ctx, "s"), func(c workflow.ReceiveChannel, _ bool) {
				c.Receive(ctx, nil)
				order = append(order, "signal")
			})
			if err := workflow.SetQueryHandler(ctx, "order", func() ([]string, error) { return order, nil }); err != nil {
				return nil, err
			}
			selector.Select(ctx)
			selector.Select(ctx)
			return order, nil
		},
	})
	run := e.start("main")
	e.eventually("the activity is selected", func() bool { return slices.Equal(query[[]string](e, run, "order"), []string{"activity"}) })
	e.signal(run, "s", nil)
	require.Equal(e, []string{"activity", "signal"}, result[[]string](e, run))
}

func selectorDefault(e *env) {
	e.work(code{"main": func(ctx workflow.Context) (got string, err error) {
		selector := workflow.NewSelector(ctx)
		selector.AddReceive(workflow.GetSignalChannel(ctx, "s"), func(workflow.ReceiveChannel, bool) { got = "signal" })
		selector.AddDefault(func() { got = "default" })
		selector.Select(ctx)
		return got, nil
	}})
	require.Equal(e, "default", result[string](e, e.start("main")))
}
