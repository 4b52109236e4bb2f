package workflow

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	commandpb "go.temporal.io/api/command/v1"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"google.golang.org/protobuf/types/known/durationpb"
)

// The faulty field is named once, by its fault; the others say which command it is.
func TestFaultNamesCommand(t *testing.T) {
	const command = "StartChildWorkflowExecutionCommand"
	long := strings.Repeat("x", idLengthMax+1)
	for name, c := range map[string]struct {
		fault fault
		want  string
	}{
		"not set":  {required("WorkflowId", command), "Required field WorkflowId is not set on " + command + ". WorkflowType=child"},
		"too long": {tooLong("WorkflowId", command, long), "WorkflowId on " + command + " exceeds length limit. WorkflowId=" + long + " Length=1001 Limit=1000 WorkflowType=child"},
		"duration": {badDuration("WorkflowRunTimeout", command, durationpb.New(-1)), "Invalid WorkflowRunTimeout on " + command + ": negative duration. WorkflowId=w WorkflowType=child"},
		"parts":    {invalid("CronSchedule", command, CheckCron("often").Error()), "invalid CronSchedule on " + command + ": invalid CronSchedule.. WorkflowId=w WorkflowType=child"},
	} {
		require.Equal(t, c.want, c.fault.of("WorkflowId", "w", "WorkflowType", "child"), name)
	}
	require.Zero(t, firstFault(fault{}, badDuration("WorkflowRunTimeout", command, nil), invalid("CronSchedule", command, "")))
}

// What a worker sends is quoted in an event: however long it is, the event stays small.
func TestFaultQuotesLittle(t *testing.T) {
	huge := strings.Repeat("x", 1<<20)
	require.Less(t, len(tooLong("TimerId", "StartTimerCommand", huge).of("RunId", huge)), 3*quotedMax)
	child := &commandpb.StartChildWorkflowExecutionCommandAttributes{WorkflowId: huge, WorkflowType: &commonpb.WorkflowType{Name: huge}}
	require.Contains(t, childFault(child).text, "Length=1048576 Limit=1000")
	policy := &commonpb.RetryPolicy{NonRetryableErrorTypes: []string{timeoutTypePrefix + huge}}
	require.Less(t, len(checkRetryPolicy(policy)), 2*quotedMax)
}

func TestManyCommandsAreListedShortly(t *testing.T) {
	marker := &commandpb.Command{CommandType: enumspb.COMMAND_TYPE_RECORD_MARKER}
	list := commandTypes([]*commandpb.Command{marker, marker})
	require.Equal(t, "RecordMarker, RecordMarker", list)
	many := make([]*commandpb.Command, 10000)
	for i := range many {
		many[i] = marker
	}
	require.True(t, strings.HasSuffix(commandTypes(many), ", RecordMarker, ..."))
	require.Len(t, strings.Split(commandTypes(many), ", "), typesShownMax+1)
}
