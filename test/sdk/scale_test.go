package sdk

import (
	"bytes"
	"context"
	"fmt"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

var scaleFeatures = group{"scale", map[string]func(*env){
	"many-events":     scaleManyEvents,
	"large-history":   scaleLargeHistory,
	"many-workflows":  scaleManyWorkflows,
	"many-activities": scaleManyActivities,
}}

// A history of several pages is read and replayed.
func scaleManyEvents(e *env) {
	const markers = 600 // more than two pages
	code := code{"main": func(ctx workflow.Context) (sum int, err error) {
		add := func(n int) error {
			var got int
			err := workflow.SideEffect(ctx, func(workflow.Context) any { return n }).Get(&got)
			sum += got
			return err
		}
		for n := range markers {
			if err := add(n); err != nil {
				return 0, err
			}
		}
		workflow.GetSignalChannel(ctx, "go").Receive(ctx, nil)
		return sum, nil
	}}
	w := e.work(code)
	run := e.start("main")
	e.awaitIdle(run, 1)
	w.Stop()
	worker.PurgeStickyWorkflowCache()
	e.work(code)
	e.signal(run, "go", nil)
	require.Equal(e, markers*(markers-1)/2, result[int](e, run))
	require.Equal(e, markers, e.history(run).count(enumspb.EVENT_TYPE_MARKER_RECORDED))
}

// A history larger than what one message may hold at most servers is read and replayed.
func scaleLargeHistory(e *env) {
	const parts, size = 6, 900_000
	code := code{
		"act": func(ctx context.Context, n int) ([]byte, error) {
			return bytes.Repeat([]byte{byte('a' + n)}, size), nil
		},
		"main": func(ctx workflow.Context) (total int, err error) {
			ctx = withActivity(ctx)
			for n := range parts {
				var part []byte
				if err := workflow.ExecuteActivity(ctx, "act", n).Get(ctx, &part); err != nil {
					return 0, err
				}
				if len(part) != size || part[size-1] != byte('a'+n) {
					return 0, fmt.Errorf("part %d is damaged", n)
				}
				total += len(part)
			}
			workflow.GetSignalChannel(ctx, "go").Receive(ctx, nil)
			return total, nil
		},
	}
	w := e.work(code)
	run := e.start("main")
	e.awaitIdle(run, parts+1)
	w.Stop()
	worker.PurgeStickyWorkflowCache()
	e.work(code)
	e.signal(run, "go", nil)
	require.Equal(e, parts*size, result[int](e, run))
}

func scaleManyWorkflows(e *env) {
	const count = 200
	e.work(code{
		"act": func(ctx context.Context, n int) (int, error) { return n * n, nil },
		"main": func(ctx workflow.Context, n int) (square int, err error) {
			err = workflow.ExecuteActivity(withActivity(ctx), "act", n).Get(ctx, &square)
			return square, err
		},
	})
	runs := make([]client.WorkflowRun, count)
	for n := range runs {
		runs[n] = e.start("main", n)
	}
	for n, run := range runs {
		require.Equal(e, n*n, result[int](e, run))
	}
}

func scaleManyActivities(e *env) {
	const count = 300
	e.work(code{
		"act": func(ctx context.Context, n int) (int, error) { return n, nil },
		"main": func(ctx workflow.Context) (sum int, err error) {
			ctx = withActivity(ctx)
			var futures []workflow.Future
			for n := range count {
				futures = append(futures, workflow.ExecuteActivity(ctx, "act", n))
			}
			for _, f := range futures {
				var n int
				if err := f.Get(ctx, &n); err != nil {
					return 0, err
				}
				sum += n
			}
			return sum, nil
		},
	})
	run := e.start("main")
	require.Equal(e, count*(count-1)/2, result[int](e, run))
	require.Equal(e, count, e.history(run).count(enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED))
}
