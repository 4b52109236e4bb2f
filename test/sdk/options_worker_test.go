package sdk

import (
	"bytes"
	"context"
	"sync"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

var workerOptions = map[string]option{
	"MaxConcurrentActivityExecutionSize": runs(func(e *env) {
		workerOneActivity(e, worker.Options{MaxConcurrentActivityExecutionSize: 1})
	}),
	"WorkerActivitiesPerSecond":               clientSide("the worker holds back the activities that it has"),
	"MaxConcurrentLocalActivityExecutionSize": clientSide("local activities are the worker's own"),
	"WorkerLocalActivitiesPerSecond":          clientSide("local activities are the worker's own"),
	"TaskQueueActivitiesPerSecond":            runs(workerQueueRate),
	"MaxConcurrentActivityTaskPollers": runs(func(e *env) {
		workerPollers(e, worker.Options{MaxConcurrentActivityTaskPollers: 5}, "PollActivityTaskQueue", 5)
	}),
	"MaxConcurrentWorkflowTaskExecutionSize": clientSide("it bounds the tasks that the worker works on at once; it polls less"),
	"MaxConcurrentWorkflowTaskPollers": runs(func(e *env) {
		workerPollers(e, worker.Options{MaxConcurrentWorkflowTaskPollers: 5}, "PollWorkflowTaskQueue", 5)
	}),
	"MaxConcurrentNexusTaskExecutionSize": clientSide("it bounds the Nexus tasks that the worker works on at once; it polls less"),
	"MaxConcurrentNexusTaskPollers":       clientSide("a worker without Nexus services does not poll for them; with some, it only polls more often"),
	"EnableLoggingInReplay":               clientSide("the worker's own log"),
	"StickyScheduleToStartTimeout":        runs(workerStickyTimeout),
	"BackgroundActivityContext":           clientSide("a Go context, which stays in the process"),
	"WorkflowPanicPolicy":                 runs(workerPanicPolicy),
	"WorkerStopTimeout":                   runs(workerStopTimeout),
	"EnableSessionWorker":                 runs(sessionOneWorker),
	"MaxConcurrentSessionExecutionSize":   runs(workerOneSession),
	"DisableWorkflowWorker":               runs(workerActivitiesOnly),
	"LocalActivityWorkerOnly":             runs(workerLocalOnly),
	"Identity":                            runs(workerIdentity),
	"DeadlockDetectionTimeout":            clientSide("the worker watches its own goroutines"),
	"MaxHeartbeatThrottleInterval": runs(func(e *env) {
		workerHeartbeats(e, worker.Options{MaxHeartbeatThrottleInterval: 10 * time.Millisecond}, long)
	}),
	"DefaultHeartbeatThrottleInterval": runs(func(e *env) {
		workerHeartbeats(e, worker.Options{DefaultHeartbeatThrottleInterval: 10 * time.Millisecond}, 0)
	}),
	"Interceptors": clientSide("they wrap the worker's own calls"),
	"OnFatalError": clientSide("what the process does when its worker has given up"),
	"DisableEagerActivities": runs(func(e *env) {
		workerEager(e, worker.Options{DisableEagerActivities: true}, 0)
	}),
	"MaxEagerActivityReservationsPerWorkflowTask": runs(func(e *env) {
		workerEager(e, worker.Options{MaxEagerActivityReservationsPerWorkflowTask: &oneReservation}, 1)
	}),
	"MaxConcurrentEagerActivityExecutionSize": runs(func(e *env) {
		workerEager(e, worker.Options{MaxConcurrentEagerActivityExecutionSize: 2}, 2)
	}),
	"DisableRegistrationAliasing": clientSide("how the worker finds a name for a Go function"),
	"BuildID":                     runs(workerBuildID),
	"UseBuildIDForVersioning":     runs(workerBuildIDVersioning),
	"DeploymentOptions":           runs(workerDeployment),
	"PreferredVersionProvider":    runs(workerPreferredVersion),
	"Tuner":                       runs(workerTuner),
	"SysInfoProvider":             runs(workerSysInfo),
	"WorkflowTaskPollerBehavior": runs(func(e *env) {
		behavior := worker.NewPollerBehaviorAutoscaling(worker.PollerBehaviorAutoscalingOptions{InitialNumberOfPollers: 6, MaximumNumberOfPollers: 6})
		workerPollers(e, worker.Options{WorkflowTaskPollerBehavior: behavior}, "PollWorkflowTaskQueue", 6)
	}),
	"ActivityTaskPollerBehavior": runs(func(e *env) {
		behavior := worker.NewPollerBehaviorSimpleMaximum(worker.PollerBehaviorSimpleMaximumOptions{MaximumNumberOfPollers: 7})
		workerPollers(e, worker.Options{ActivityTaskPollerBehavior: behavior}, "PollActivityTaskQueue", 7)
	}),
	"NexusTaskPollerBehavior":  clientSide("a worker without Nexus services does not poll for them; with some, it only polls more or less often"),
	"Plugins":                  clientSide("they change the worker's options and wrap its start and stop"),
	"DisablePayloadErrorLimit": runs(workerPayloadLimit),
}

var oneReservation = 1

// While the only slot is taken, the worker asks for no activities; the others wait at the server.
func workerOneActivity(e *env, o worker.Options) {
	const count = 3
	c, link := e.dial(client.Options{})
	running, next := make(chan bool), make(chan bool)
	o.DisableEagerActivities = true
	e.workWith(c, e.queue, o, code{
		"act": func(ctx context.Context) error {
			running <- true
			<-next
			return nil
		},
		"main": func(ctx workflow.Context) error {
			var futures []workflow.Future
			for range count {
				futures = append(futures, workflow.ExecuteActivity(withActivity(ctx), "act"))
			}
			for _, f := range futures {
				if err := f.Get(ctx, nil); err != nil {
					return err
				}
			}
			return nil
		},
	})
	run := e.start("main")
	for range count {
		receive(e, running)
		e.eventually("the worker stops polling", func() bool { return link.waiting("PollActivityTaskQueue") == 0 })
		next <- true
	}
	e.done(run)
}

func workerTuner(e *env) {
	tuner, err := worker.NewFixedSizeTuner(worker.FixedSizeTunerOptions{
		NumWorkflowSlots: 10, NumActivitySlots: 1, NumLocalActivitySlots: 10, NumNexusSlots: 10,
	})
	require.NoError(e, err)
	workerOneActivity(e, worker.Options{Tuner: tuner})
}

// The server holds the whole queue to the rate, however many workers there are.
func workerQueueRate(e *env) {
	const count, rate = 8, 4.0
	var mu sync.Mutex
	var times []time.Time
	code := code{
		"act": func(ctx context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			times = append(times, time.Now())
			return nil
		},
		"main": func(ctx workflow.Context) error {
			var futures []workflow.Future
			for range count {
				futures = append(futures, workflow.ExecuteActivity(withActivity(ctx), "act"))
			}
			for _, f := range futures {
				if err := f.Get(ctx, nil); err != nil {
					return err
				}
			}
			return nil
		},
	}
	for range 2 {
		e.workWith(e.c, e.queue, worker.Options{TaskQueueActivitiesPerSecond: rate}, code)
	}
	run := e.start("main")
	e.done(run)
	mu.Lock()
	defer mu.Unlock()
	// A burst is one second's worth; the others come at the rate.
	require.GreaterOrEqual(e, times[count-1].Sub(times[0]).Seconds(), (count-rate)/rate*0.8)
}

// So many polls wait at the server at once.
func workerPollers(e *env, o worker.Options, method string, count int) {
	c, link := e.dial(client.Options{})
	e.workWith(c, e.queue, o, code{
		"act": func(ctx context.Context) error { return nil },
		"main": func(ctx workflow.Context) error {
			return workflow.ExecuteActivity(withActivity(ctx), "act").Get(ctx, nil)
		},
	})
	// With autoscaling, the sticky queue has so many pollers of its own. The default is two.
	e.eventually("all pollers wait", func() bool { return link.waiting(method) >= count })
	e.done(e.start("main"))
}

// A worker that vanishes with a workflow in its cache is given up after the timeout. It is longer than the default of 5 s, so that a busy
// machine, which may delay the end of any timeout, cannot be taken for another timeout.
func workerStickyTimeout(e *env) {
	const timeout = 7 * time.Second
	for {
		waited, kind := e.vanishWithCache(timeout)
		if kind == enumspb.TIMEOUT_TYPE_START_TO_CLOSE {
			continue // the server had not yet heard that the worker's poll was gone, and gave it the task
		}
		require.Equal(e, enumspb.TIMEOUT_TYPE_SCHEDULE_TO_START, kind)
		require.GreaterOrEqual(e, waited, timeout)
		return
	}
}

// vanishWithCache runs a workflow whose worker vanishes, and tells how long its next task waited before it timed out, and how.
func (e *env) vanishWithCache(timeout time.Duration) (waited time.Duration, kind enumspb.TimeoutType) {
	code := code{"main": func(ctx workflow.Context) ([]int, error) { return collect(ctx, "n", 1) }}
	queue := e.unique()
	c, link := e.dial(client.Options{})
	e.workWith(c, queue, worker.Options{StickyScheduleToStartTimeout: timeout}, code)
	o := e.options()
	o.TaskQueue, o.WorkflowTaskTimeout = queue, taskTimeout
	run := e.startWith(o, "main")
	e.awaitIdle(run, 1)
	link.cut()
	e.workWith(e.c, queue, worker.Options{}, code)
	e.signal(run, "n", 1)
	e.done(run)
	h := e.history(run)
	timedOut := h.one(e, enumspb.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT)
	attributes := timedOut.GetWorkflowTaskTimedOutEventAttributes()
	return timedOut.EventTime.AsTime().Sub(h[attributes.ScheduledEventId-1].EventTime.AsTime()), attributes.TimeoutType
}

func workerPanicPolicy(e *env) {
	e.workWith(e.c, e.queue, worker.Options{WorkflowPanicPolicy: worker.FailWorkflow}, code{"main": func(ctx workflow.Context) error { panic("oh no") }})
	require.ErrorContains(e, e.failure(e.start("main")), "oh no")
}

// A worker that stops lets its activity finish.
func workerStopTimeout(e *env) {
	running := make(chan bool, 1)
	w := e.workWith(e.c, e.queue, worker.Options{WorkerStopTimeout: time.Minute}, code{
		"act": func(ctx context.Context) (string, error) {
			running <- true
			<-activity.GetWorkerStopChannel(ctx)
			return "finished", nil
		},
		"main": func(ctx workflow.Context) (s string, err error) {
			err = workflow.ExecuteActivity(withActivity(ctx), "act").Get(ctx, &s)
			return s, err
		},
	})
	run := e.start("main")
	receive(e, running)
	w.Stop()
	e.awaitEvents(run, enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED, 1)
	require.EqualValues(e, 1, e.history(run).one(e, enumspb.EVENT_TYPE_ACTIVITY_TASK_STARTED).GetActivityTaskStartedEventAttributes().Attempt)
	require.NoError(e, e.c.TerminateWorkflow(e.ctx, run.GetID(), "", "enough"))
}

// A second session finds no place.
func workerOneSession(e *env) {
	created := make(chan bool, 1)
	e.workWith(e.c, e.queue, worker.Options{EnableSessionWorker: true, MaxConcurrentSessionExecutionSize: 1}, code{
		"tell": func(ctx context.Context) error { created <- true; return nil },
		"first": func(ctx workflow.Context) error {
			session, err := workflow.CreateSession(withActivity(ctx), aSession)
			if err != nil {
				return err
			}
			defer workflow.CompleteSession(session)
			if err := workflow.ExecuteActivity(session, "tell").Get(session, nil); err != nil {
				return err
			}
			return waitSignal(ctx)
		},
		"second": func(ctx workflow.Context) error {
			o := *aSession
			o.CreationTimeout = time.Second
			_, err := workflow.CreateSession(withActivity(ctx), &o)
			return check(err != nil, "the session was created")
		},
	})
	first := e.start("first")
	receive(e, created)
	e.done(e.start("second"))
	e.signal(first, "end", nil)
	e.done(first)
}

func workerActivitiesOnly(e *env) {
	c, link := e.dial(client.Options{})
	e.workWith(c, e.queue, worker.Options{DisableWorkflowWorker: true}, code{"act": func(ctx context.Context) error { return nil }})
	e.workWith(e.c, e.queue, worker.Options{LocalActivityWorkerOnly: true}, code{
		"main": func(ctx workflow.Context) error {
			return workflow.ExecuteActivity(withActivity(ctx), "act").Get(ctx, nil)
		},
	})
	e.done(e.start("main"))
	require.Zero(e, link.most("PollWorkflowTaskQueue"))
}

func workerLocalOnly(e *env) {
	c, link := e.dial(client.Options{})
	e.workWith(c, e.queue, worker.Options{LocalActivityWorkerOnly: true}, code{
		"act": func(ctx context.Context) error { return nil },
		"main": func(ctx workflow.Context) error {
			return workflow.ExecuteLocalActivity(withLocalActivity(ctx), "act").Get(ctx, nil)
		},
	})
	e.done(e.start("main"))
	require.Zero(e, link.most("PollActivityTaskQueue"))
}

func workerIdentity(e *env) {
	e.workWith(e.c, e.queue, worker.Options{Identity: "it-is-me"}, nothing)
	run := e.start("main")
	e.done(run)
	h := e.history(run)
	require.Equal(e, "it-is-me", h.one(e, enumspb.EVENT_TYPE_WORKFLOW_TASK_STARTED).GetWorkflowTaskStartedEventAttributes().Identity)
	require.Equal(e, "it-is-me", h.one(e, enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED).GetWorkflowTaskCompletedEventAttributes().Identity)
}

// A heartbeat after another is seen soon; by default, the worker would keep it for half a minute.
func workerHeartbeats(e *env, o worker.Options, timeout time.Duration) {
	release := make(chan bool)
	e.workWith(e.c, e.queue, o, code{
		"act": func(ctx context.Context) error {
			for n := range 3 {
				activity.RecordHeartbeat(ctx, n)
			}
			<-release
			return nil
		},
		"main": func(ctx workflow.Context) error {
			ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 2 * long, HeartbeatTimeout: timeout})
			return workflow.ExecuteActivity(ctx, "act").Get(ctx, nil)
		},
	})
	run := e.start("main")
	began := time.Now()
	e.eventually("the last heartbeat is seen", func() bool {
		d, err := e.c.DescribeWorkflowExecution(e.ctx, run.GetID(), "")
		require.NoError(e, err)
		if len(d.PendingActivities) == 0 {
			return false
		}
		details := d.PendingActivities[0].HeartbeatDetails.GetPayloads()
		return len(details) == 1 && string(details[0].Data) == "2"
	})
	require.Less(e, time.Since(began), 25*time.Second)
	close(release)
	e.done(run)
}

func workerEager(e *env, o worker.Options, want int) {
	asked, got := e.eagerRun(o, 3, workflow.ActivityOptions{})
	require.Equal(e, want, asked)
	require.Equal(e, want, got)
}

func workerPreferredVersion(e *env) {
	prefer := func(worker.PreferredVersionProviderInput) *worker.VersionPreference {
		return &worker.VersionPreference{Version: 2}
	}
	e.workWith(e.c, e.queue, worker.Options{PreferredVersionProvider: prefer}, code{"main": func(ctx workflow.Context) (workflow.Version, error) {
		return workflow.GetVersion(ctx, "change", 1, 3), nil
	}})
	run := e.start("main")
	require.EqualValues(e, 2, result[workflow.Version](e, run))
	require.Equal(e, []string{run.GetID()}, e.list("TemporalChangeVersion = 'change-2' AND TaskQueue = '"+e.queue+"'"))
}

// halfBusy is a machine of which the worker reports how busy it is.
type halfBusy struct{}

func (halfBusy) MemoryUsage(*worker.SysInfoContext) (float64, error) { return 0.25, nil }
func (halfBusy) CpuUsage(*worker.SysInfoContext) (float64, error)    { return 0.5, nil }

// What a worker says of its machine goes into worker heartbeats. This server does not ask for them, and so there are none, whatever the
// client's interval; the day it does, this has to show what DescribeWorker says of the machine.
func workerSysInfo(e *env) {
	namespace, err := e.c.WorkflowService().DescribeNamespace(e.ctx, &workflowservice.DescribeNamespaceRequest{Namespace: "default"})
	require.NoError(e, err)
	require.False(e, namespace.NamespaceInfo.GetCapabilities().GetWorkerHeartbeats(), "the server asks for heartbeats: assert what it shows of them")
	c, link := e.dial(client.Options{WorkerHeartbeatInterval: time.Second})
	w := e.workWith(c, e.queue, worker.Options{SysInfoProvider: halfBusy{}}, nothing)
	e.done(e.start("main"))
	w.Stop()
	require.Zero(e, link.most("RecordWorkerHeartbeat"))
}

// Without the worker's own check it is the server that refuses a result that is too large.
func workerPayloadLimit(e *env) {
	const size = 5 << 19 // more than the limit of 2 MiB, less than that of a message
	for _, disabled := range []bool{false, true} {
		c, link := e.dial(client.Options{})
		w := e.workWith(c, e.queue, worker.Options{DisablePayloadErrorLimit: disabled}, code{
			"act": func(ctx context.Context) ([]byte, error) { return bytes.Repeat([]byte{'x'}, size), nil },
			"main": func(ctx workflow.Context) error {
				ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
					StartToCloseTimeout: time.Minute, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1},
				})
				return workflow.ExecuteActivity(ctx, "act").Get(ctx, nil)
			},
		})
		require.ErrorAs(e, e.failure(e.start("main")), new(*temporal.ActivityError))
		sent, _ := seen[*workflowservice.RespondActivityTaskCompletedRequest, *workflowservice.RespondActivityTaskCompletedResponse](link)
		require.Equal(e, disabled, len(sent) > 0, "the result was sent")
		w.Stop()
	}
}
