package cluster

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	workflowservice "go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	historypb "github.com/perdure/perdure/api/history/v1"
	matchingpb "github.com/perdure/perdure/api/matching/v1"
	statepb "github.com/perdure/perdure/api/state/v1"
	tokenpb "github.com/perdure/perdure/api/token/v1"
	"github.com/perdure/perdure/cluster/certs"
	"github.com/perdure/perdure/cluster/certs/certstest"
	"github.com/perdure/perdure/persistence"
)

// workflowIDs is where the requests of history name the workflow.
var workflowIDs = map[string]string{
	"StartWorkflowExecution":             "request.workflow_id",
	"SignalWorkflowExecution":            "request.workflow_execution.workflow_id",
	"SignalWithStartWorkflowExecution":   "request.workflow_id",
	"RequestCancelWorkflowExecution":     "request.workflow_execution.workflow_id",
	"TerminateWorkflowExecution":         "request.workflow_execution.workflow_id",
	"DescribeWorkflowExecution":          "request.execution.workflow_id",
	"GetWorkflowExecutionHistory":        "request.execution.workflow_id",
	"GetWorkflowExecutionHistoryReverse": "request.execution.workflow_id",
	"QueryWorkflow":                      "request.execution.workflow_id",
	"ResetStickyTaskQueue":               "request.execution.workflow_id",
	"RespondWorkflowTaskCompleted":       "token.workflow_id",
	"RespondWorkflowTaskFailed":          "token.workflow_id",
	"RecordActivityTaskHeartbeat":        "token.workflow_id",
	"RespondActivityTaskCompleted":       "token.workflow_id",
	"RespondActivityTaskFailed":          "token.workflow_id",
	"RespondActivityTaskCanceled":        "token.workflow_id",
	"UpdateWorkflowExecution":            "request.workflow_execution.workflow_id",
	"PollWorkflowExecutionUpdate":        "request.update_ref.workflow_execution.workflow_id",
	"ExecuteMultiOperation":              "request.operations.start_workflow.workflow_id",
	"ResetWorkflowExecution":             "request.workflow_execution.workflow_id",
	"DeleteWorkflowExecution":            "request.workflow_execution.workflow_id",
	"UpdateWorkflowExecutionOptions":     "request.workflow_execution.workflow_id",
	"PauseWorkflowExecution":             "request.workflow_id",
	"UnpauseWorkflowExecution":           "request.workflow_id",
	"UpdateActivityOptions":              "request.execution.workflow_id",
	"PauseActivity":                      "request.execution.workflow_id",
	"UnpauseActivity":                    "request.execution.workflow_id",
	"ResetActivity":                      "request.execution.workflow_id",
	"RecordWorkflowTaskStarted":          "execution.workflow_id",
	"RecordActivityTaskStarted":          "execution.workflow_id",
	"RecordQueryTaskStarted":             "execution.workflow_id",
	"StartChild":                         "request.workflow_id",
	"ReleaseChild":                       "child.workflow_id",
	"RecordChildClosed":                  "parent.workflow_id",
	"SignalFromWorkflow":                 "request.workflow_execution.workflow_id",
	"CancelFromWorkflow":                 "request.workflow_execution.workflow_id",
	"TerminateFromWorkflow":              "request.workflow_execution.workflow_id",
}

// fill sets the string at a path, making what is on the way.
func fill(m protoreflect.Message, p path, value string) {
	for _, field := range p[:len(p)-1] {
		if field.IsList() {
			m = m.Mutable(field).List().AppendMutable().Message()
		} else {
			m = m.Mutable(field).Message()
		}
	}
	m.Set(p[len(p)-1], protoreflect.ValueOfString(value))
}

func TestEveryRequestOfHistoryIsRoutedByItsWorkflow(t *testing.T) {
	found := historyMethods()
	service := historypb.File_perdure_history_v1_service_proto.Services().ByName("HistoryService")
	require.Len(t, found, service.Methods().Len())
	for name, m := range found {
		want, ok := workflowIDs[name]
		require.True(t, ok, name)
		input := service.Methods().ByName(protoreflect.Name(name)).Input()
		where, ok := findPath(input, want)
		require.True(t, ok, "%s: %s", name, want)
		kind, err := protoregistry.GlobalTypes.FindMessageByName(input.FullName())
		require.NoError(t, err)
		request := kind.New()
		require.Equal(t, "", m.workflow.get(request.Interface()), "%s of an empty request", name)
		fill(request, where, "the-workflow")
		fill(request, path{input.Fields().ByName("namespace_id")}, testNamespace)
		require.Equal(t, shardOfWorkflow("the-workflow"), shardOf(m, request.Interface()), name)
	}
}

func TestWhatMayBeRepeated(t *testing.T) {
	history, matching := historyMethods(), matchingMethods()
	repeatable := func(name string, in proto.Message) bool { return history[name].repeatable(in) }
	require.True(t, repeatable("SignalWorkflowExecution", signal("w", "r")))
	require.False(t, repeatable("SignalWorkflowExecution", signal("w", "")), "without a request id it would be another signal")
	require.False(t, repeatable("TerminateWorkflowExecution", terminate("w", "")))
	require.True(t, repeatable("DescribeWorkflowExecution", describe("w")))
	require.True(t, repeatable("RespondActivityTaskCompleted", &historypb.RespondActivityTaskCompletedRequest{Token: &tokenpb.Task{StartId: "s"}}))
	require.False(t, repeatable("RespondActivityTaskCompleted", &historypb.RespondActivityTaskCompletedRequest{
		Token: &tokenpb.Task{ActivityId: "by id"},
	}))
	require.True(t, matching["AddTask"].repeatable(&matchingpb.AddTaskRequest{}))
	require.False(t, matching["UpdateTaskQueueConfig"].repeatable(&matchingpb.UpdateTaskQueueConfigRequest{}))
	require.Panics(t, func() {
		methods(matchingpb.File_perdure_matching_v1_service_proto.Services().ByName("MatchingService"), map[string]rule{"AddTask": reads})
	})
}

func TestWithoutAnOwnerACallWaitsAndThenSaysSo(t *testing.T) {
	s := newSite(t)
	f := s.frontend()
	client := NewHistoryClient(f.Membership, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := client.DescribeWorkflowExecution(ctx, describe("w"))
	require.ErrorContains(t, err, "no history service")
	require.Equal(t, codes.Unavailable, serviceerror.ToStatus(err).Code())
	require.NoError(t, ctx.Err(), "in time for an answer")
	done := make(chan error, 1)
	go func() {
		_, err := client.DescribeWorkflowExecution(t.Context(), describe("w"))
		done <- err
	}()
	s.owns(s.machine("a"), all)
	require.NoError(t, <-done)
}

func TestACallThatMayHaveBeenAppliedIsNotRepeatedWithoutAKey(t *testing.T) {
	s := newSite(t)
	a := s.machine("a")
	s.owns(a, all)
	f := s.frontend()
	called := make(chan struct{})
	a.history.hold = func(ctx context.Context) { close(called); <-ctx.Done() }
	done := make(chan error, 1)
	go func() {
		_, err := NewHistoryClient(f.Membership, nil).TerminateWorkflowExecution(t.Context(), terminate("w", ""))
		done <- err
	}()
	<-called
	a.server.Stop() // the connection breaks
	err := <-done
	require.Equal(t, codes.Unavailable, serviceerror.ToStatus(err).Code())
	require.ErrorContains(t, err, "was lost")
	require.Equal(t, 1, a.history.count("terminate"))
}

func TestWhatAnOwnerRefusesIsTheCallersToKnow(t *testing.T) {
	s := newSite(t)
	a := s.machine("a")
	s.owns(a, all)
	f := s.frontend()
	_, err := NewHistoryClient(f.Membership, nil).ResetWorkflowExecution(t.Context(), &historypb.ResetWorkflowExecutionRequest{
		NamespaceId: testNamespace, Request: &workflowservice.ResetWorkflowExecutionRequest{RequestId: "r"},
	})
	require.ErrorContains(t, err, "not now")
	require.Equal(t, 1, a.history.count("reset"))
	_, err = NewHistoryClient(f.Membership, nil).PauseActivity(t.Context(), &historypb.PauseActivityRequest{NamespaceId: testNamespace})
	require.Equal(t, codes.Unimplemented, serviceerror.ToStatus(err).Code())
}

func TestACallOfThisProcessUsesNoSocket(t *testing.T) {
	s := newSite(t)
	a := s.machine("a")
	s.owns(a, all)
	client := NewHistoryClient(a.Membership, historypb.LocalHistoryServiceClient{Server: a.history})
	a.server.Stop()
	_, err := client.SignalWorkflowExecution(t.Context(), signal("w", "r"))
	require.NoError(t, err)
	_, err = NewHistoryClient(a.Membership, nil).SignalWorkflowExecution(t.Context(), signal("w", "r"))
	require.ErrorContains(t, err, "does not run it")
}

func TestAReadThatTheLeaseDidNotOutliveIsNotAnswered(t *testing.T) {
	s := newSite(t)
	a := s.machine("a")
	require.True(t, a.Valid())
	during := func() error { a.yielding.Store(true); return nil }
	require.Error(t, a.guard(true, during))
	a.yielding.Store(false)
	require.NoError(t, a.guard(false, during), "what is written is written")
	require.Error(t, a.guard(false, during), "before anything is written")
	a.yielding.Store(false)
}

func queueOf(view *View, owner string, kind enumspb.TaskQueueKind) *matchingpb.Partition {
	for i := 0; ; i++ {
		p := &matchingpb.Partition{NamespaceId: testNamespace, TaskQueue: fmt.Sprint("queue-", i), Type: enumspb.TASK_QUEUE_TYPE_WORKFLOW, Kind: kind}
		if m, ok := view.PartitionOwner(p); !ok || m.ID == owner {
			return p
		}
	}
}

// pair makes two machines and a frontend that all see each other.
func (s *site) pair() (a, b, f *machine) {
	a, b, f = s.machine("a"), s.machine("b"), s.frontend()
	for _, m := range []*machine{a, b, f} {
		require.Eventually(s.t, func() bool { return len(m.View().Live(Matching)) == 2 }, 5*time.Second, time.Millisecond)
	}
	return a, b, f
}

func TestAPollFollowsItsPartition(t *testing.T) {
	for _, graceful := range []bool{true, false} {
		t.Run(fmt.Sprint("graceful=", graceful), func(t *testing.T) {
			s := newSite(t)
			a, b, f := s.pair()
			client := NewMatchingClient(f.Membership, nil)
			partition := queueOf(f.View(), "b", enumspb.TASK_QUEUE_KIND_NORMAL)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			got := make(chan string, 1)
			go func() {
				response, err := client.PollWorkflowTaskQueue(ctx, &matchingpb.PollWorkflowTaskQueueRequest{Partition: partition})
				got <- fmt.Sprint(string(response.GetTaskToken()), err)
			}()
			polls := func(f *fakeMatching) int { return f.polls }
			require.Eventually(t, func() bool { return b.matching.read(polls) == 1 }, 5*time.Second, time.Millisecond)
			if graceful {
				require.NoError(t, b.stop(ctx))
			} else {
				b.kill(s)
			}
			_, err := client.AddTask(ctx, &matchingpb.AddTaskRequest{Partition: partition, Task: &statepb.Task{WorkflowId: "w"}})
			require.NoError(t, err)
			require.Equal(t, "w<nil>", <-got)
			require.Equal(t, 1, a.matching.read(polls))
		})
	}
}

func TestAWaitingTaskFollowsItsPartition(t *testing.T) {
	s := newSite(t)
	_, b, f := s.pair()
	client := NewMatchingClient(f.Membership, nil)
	partition := queueOf(f.View(), "b", enumspb.TASK_QUEUE_KIND_NORMAL)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	added := make(chan error, 1)
	go func() {
		_, err := client.AddTask(ctx, &matchingpb.AddTaskRequest{Partition: partition, Task: &statepb.Task{WorkflowId: "w"}})
		added <- err
	}()
	require.Eventually(t, func() bool {
		return b.matching.read(func(f *fakeMatching) int { return len(f.queues) }) == 1
	}, 5*time.Second, time.Millisecond)
	require.NoError(t, b.stop(ctx))
	response, err := client.PollWorkflowTaskQueue(ctx, &matchingpb.PollWorkflowTaskQueueRequest{Partition: partition})
	require.NoError(t, err)
	require.Equal(t, "w", string(response.GetTaskToken()))
	require.NoError(t, <-added)
}

func TestAPartitionIsServedOnlyByItsOwner(t *testing.T) {
	s := newSite(t)
	a, b, f := s.pair()
	link, err := f.links.get(a.self)
	require.NoError(t, err)
	at := matchingpb.NewMatchingServiceClient(link.conn)
	_, err = at.DescribeTaskQueue(t.Context(), &matchingpb.DescribeTaskQueueRequest{Partition: queueOf(f.View(), "b", enumspb.TASK_QUEUE_KIND_NORMAL)})
	require.Equal(t, result{outcome: moved, err: err, hint: b.self.Address}, classify(err))
	require.Equal(t, b.self.Address, f.PartitionAddress(queueOf(f.View(), "b", enumspb.TASK_QUEUE_KIND_STICKY)))
	_, err = at.DescribeTaskQueue(t.Context(), &matchingpb.DescribeTaskQueueRequest{Partition: queueOf(f.View(), "a", enumspb.TASK_QUEUE_KIND_NORMAL)})
	require.NoError(t, err)
}

func TestAnswersOfQueriesGoToTheirHolder(t *testing.T) {
	s := newSite(t)
	a, b, f := s.pair()
	client := NewMatchingClient(f.Membership, nil)
	answers := func(f *fakeMatching) int { return len(f.answers) }
	for _, owner := range []string{"a", "b"} {
		_, err := client.RespondQueryTaskCompleted(t.Context(), &matchingpb.RespondQueryTaskCompletedRequest{
			NamespaceId: testNamespace, TaskQueue: "any", QueryId: "q", Owner: owner,
		})
		require.NoError(t, err)
	}
	require.Equal(t, 1, a.matching.read(answers))
	require.Equal(t, 1, b.matching.read(answers))
	_, err := client.RespondQueryTaskCompleted(t.Context(), &matchingpb.RespondQueryTaskCompletedRequest{QueryId: "q", Owner: "gone"})
	require.Equal(t, codes.NotFound, serviceerror.ToStatus(err).Code())
	_, err = client.RespondQueryTaskCompleted(t.Context(), &matchingpb.RespondQueryTaskCompletedRequest{
		NamespaceId: testNamespace, TaskQueue: queueOf(f.View(), "a", enumspb.TASK_QUEUE_KIND_STICKY).GetTaskQueue(), QueryId: "q",
	})
	require.NoError(t, err)
	require.Equal(t, 2, a.matching.read(answers))
}

func TestCancelPollsReachesEveryMember(t *testing.T) {
	s := newSite(t)
	a, b, f := s.pair()
	client := NewMatchingClient(f.Membership, nil)
	in := &matchingpb.CancelPollsRequest{Partition: queueOf(f.View(), "a", enumspb.TASK_QUEUE_KIND_STICKY), Identity: "i"}
	_, err := client.CancelPolls(t.Context(), in)
	require.NoError(t, err)
	cancels := func(f *fakeMatching) int { return f.cancels }
	require.Equal(t, 1, a.matching.read(cancels))
	require.Equal(t, 1, b.matching.read(cancels))
	b.server.Stop()
	_, err = client.CancelPolls(t.Context(), in)
	require.NoError(t, err, "the polls of who is gone have ended")
}

func TestRequestsAboutAQueueGoToItsRoot(t *testing.T) {
	p := partitionOf(&matchingpb.ListTaskQueuePartitionsRequest{
		NamespaceId: "n", Request: &workflowservice.ListTaskQueuePartitionsRequest{TaskQueue: &taskqueuepb.TaskQueue{Name: "q"}},
	})
	require.Equal(t, partitionKey(&matchingpb.Partition{NamespaceId: "n", TaskQueue: "q"}), partitionKey(p))
}

func TestConnectionsFollowMembership(t *testing.T) {
	s := newSite(t)
	a, b, f := s.pair()
	linked := func(m *machine, id string) bool {
		m.links.mu.Lock()
		defer m.links.mu.Unlock()
		return m.links.byID[id] != nil
	}
	require.Eventually(t, func() bool { return linked(f, "a") && linked(f, "b") && linked(a, "b") }, 5*time.Second, time.Millisecond)
	require.NoError(t, b.stop(t.Context()))
	require.Eventually(t, func() bool { return !linked(f, "b") && !linked(a, "b") }, 5*time.Second, time.Millisecond)
	require.True(t, linked(f, "a"))
	require.NoError(t, f.Leave(t.Context()))
	require.False(t, linked(f, "a"))
	_, err := f.links.get(a.self)
	require.ErrorIs(t, err, errLeft)
}

func TestAnotherProcessAtAnAddressIsNobody(t *testing.T) {
	s := newSite(t)
	a, f := s.machine("a"), s.frontend()
	ping := func(to persistence.Member) error {
		_, err := f.pingMember(t.Context(), to, news{})
		return err
	}
	require.NoError(t, ping(a.self))
	stranger := a.self
	stranger.ID = "former"
	require.ErrorIs(t, ping(stranger), errNobody)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	nowhere := persistence.Member{ID: "nowhere", Address: listener.Addr().String()}
	require.NoError(t, listener.Close())
	require.ErrorIs(t, ping(nowhere), errNobody)
}

func TestMembersSpeakTLS(t *testing.T) {
	s := newSite(t)
	authority := certstest.NewAuthority(t)
	loaded := func(a *certstest.Authority) *certs.Certificates {
		c, err := certs.Load(a.Write(t, t.TempDir(), "member", 1), nil)
		require.NoError(t, err)
		return c
	}
	s.params = func(p *Params) { p.Certs, p.ServerName = loaded(authority), "member" }
	a, b, f := s.pair()
	s.owns(a, some)
	s.owns(b, some)
	for i := range 20 {
		_, err := NewHistoryClient(f.Membership, nil).SignalWorkflowExecution(t.Context(), signal(fmt.Sprint(i), "r"))
		require.NoError(t, err)
	}
	stranger, err := newLink(a.self.Address, loaded(certstest.NewAuthority(t)).Client("member"))
	require.NoError(t, err)
	defer func() { require.NoError(t, stranger.conn.Close()) }()
	_, err = historypb.NewHistoryServiceClient(stranger.conn).DescribeWorkflowExecution(t.Context(), describe("w"))
	require.Equal(t, codes.Unavailable, serviceerror.ToStatus(err).Code())
	require.ErrorContains(t, err, "certificate")
}

func BenchmarkRoute(b *testing.B) {
	m, err := New(Params{Store: newDatabase(), Self: persistence.Member{ID: "a", Service: History, Address: "a:1"}})
	require.NoError(b, err)
	require.NoError(b, m.Join(b.Context()))
	defer func() { require.NoError(b, m.Leave(context.Background())) }()
	client := NewHistoryClient(m, historypb.LocalHistoryServiceClient{Server: historypb.UnimplementedHistoryServiceServer{}})
	in := signal("workflow", "request")
	b.ReportAllocs()
	for b.Loop() {
		_, _ = client.SignalWorkflowExecution(b.Context(), in) // it is not implemented, which is quick
	}
}
