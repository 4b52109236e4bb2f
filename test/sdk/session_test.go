package sdk

import (
	"context"
	"errors"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

var sessionFeatures = group{"session", map[string]func(*env){
	"one-worker":    sessionOneWorker,
	"recreate":      sessionRecreate,
	"worker-killed": sessionWorkerKilled,
}}

var aSession = &workflow.SessionOptions{CreationTimeout: time.Minute, ExecutionTimeout: time.Minute, HeartbeatTimeout: 3 * time.Second}

// hosts runs workers with sessions on the test's queue; the activity "where" names the one that it runs on.
func (e *env) hosts(names []string, code code) {
	for _, name := range names {
		e.host(e.c, name, code)
	}
}

func (e *env) host(c client.Client, name string, workflows code) worker.Worker {
	all := code{"where": func(ctx context.Context) (string, error) { return name, nil }}
	for n, f := range workflows {
		all[n] = f
	}
	return e.workWith(c, e.queue, worker.Options{EnableSessionWorker: true, Identity: name}, all)
}

// visit asks so often where the activities of a context run.
func visit(ctx workflow.Context, times int) (places []string, err error) {
	for range times {
		var place string
		if err := workflow.ExecuteActivity(ctx, "where").Get(ctx, &place); err != nil {
			return nil, err
		}
		places = append(places, place)
	}
	return places, nil
}

// All activities of a session run on one worker.
func sessionOneWorker(e *env) {
	e.hosts([]string{"h1", "h2", "h3"}, code{"main": func(ctx workflow.Context) ([]string, error) {
		session, err := workflow.CreateSession(withActivity(ctx), aSession)
		if err != nil {
			return nil, err
		}
		defer workflow.CompleteSession(session)
		return visit(session, 8)
	}})
	places := result[[]string](e, e.start("main"))
	require.Len(e, places, 8)
	for _, place := range places {
		require.Equal(e, places[0], place)
	}
}

// A session that the next run recreates is on the same worker.
func sessionRecreate(e *env) {
	e.hosts([]string{"h1", "h2", "h3"}, code{"main": func(ctx workflow.Context, token []byte, before []string) ([]string, error) {
		ctx = withActivity(ctx)
		if token != nil {
			session, err := workflow.RecreateSession(ctx, token, aSession)
			if err != nil {
				return nil, err
			}
			defer workflow.CompleteSession(session)
			after, err := visit(session, 3)
			return append(before, after...), err
		}
		session, err := workflow.CreateSession(ctx, aSession)
		if err != nil {
			return nil, err
		}
		places, err := visit(session, 2)
		if err != nil {
			return nil, err
		}
		token = workflow.GetSessionInfo(session).GetRecreateToken()
		workflow.CompleteSession(session)
		return nil, workflow.NewContinueAsNewError(ctx, "main", token, places)
	}})
	places := result[[]string](e, e.start("main", nil, nil))
	require.Len(e, places, 5)
	for _, place := range places {
		require.Equal(e, places[0], place)
	}
}

// The worker of a session vanishes: the session fails, and a new one is made elsewhere.
func sessionWorkerKilled(e *env) {
	code := code{"main": func(ctx workflow.Context) (string, error) {
		ctx = withActivity(ctx)
		session, err := workflow.CreateSession(ctx, aSession)
		if err != nil {
			return "", err
		}
		places, err := visit(session, 1)
		if err != nil || places[0] != "doomed" {
			return "", errors.Join(errors.New("the session is not where it should be"), err)
		}
		workflow.GetSignalChannel(ctx, "killed").Receive(ctx, nil)
		_, err = visit(session, 1)
		if !errors.Is(err, workflow.ErrSessionFailed) && !temporal.IsCanceledError(err) {
			return "", errors.Join(errors.New("the session has not failed"), err)
		}
		if session, err = workflow.CreateSession(ctx, aSession); err != nil {
			return "", err
		}
		defer workflow.CompleteSession(session)
		places, err = visit(session, 1)
		return places[0], err
	}}
	c, link := e.dial(client.Options{})
	doomed := e.host(c, "doomed", code)
	run := e.start("main")
	// The workflow waits for its signal when its session is on the doomed worker.
	e.eventually("the workflow waits", func() bool {
		d, err := e.c.DescribeWorkflowExecution(e.ctx, run.GetID(), "")
		return err == nil && d.PendingWorkflowTask == nil && e.history(run).count(enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED) == 1
	})
	link.cut()
	e.host(e.c, "other", code)
	e.signal(run, "killed", nil)
	require.Equal(e, "other", result[string](e, run))
	doomed.Stop()
}
