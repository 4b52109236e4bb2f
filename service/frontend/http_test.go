package frontend

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	historyapi "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"

	historypb "github.com/perdure/perdure/api/history/v1"
)

const workflowPath = "/namespaces/" + testNamespace + "/workflows/w"

const startBody = `{"workflowType": {"name": "Type"}, "taskQueue": {"name": "q"}, "input": ["text", 1, null]}`

func newGateway(t *testing.T, e *env) http.Handler {
	gateway, err := NewHTTPGateway(e.local)
	require.NoError(t, err)
	return gateway
}

func serveHTTPRequest(gateway http.Handler, method, target, body string, headers ...string) (int, string) {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	gateway.ServeHTTP(w, r)
	data, _ := io.ReadAll(w.Result().Body)
	return w.Code, string(data)
}

func TestHTTPStatuses(t *testing.T) {
	e := newEnv(t)
	gateway := newGateway(t, e)
	for name, c := range map[string]struct {
		method, target, body string
		want                 int
	}{
		"root":                 {"GET", "/", "", 404},
		"no such path":         {"GET", "/no/such/path", "", 404},
		"cluster":              {"GET", "/cluster", "", 200},
		"cluster v1":           {"GET", "/api/v1/cluster-info", "", 200},
		"system info":          {"GET", "/system-info", "", 200},
		"namespace":            {"GET", "/cluster/namespaces/" + testNamespace, "", 200},
		"namespace without v1": {"GET", "/namespaces/" + testNamespace, "", 404},
		"namespace unknown":    {"GET", "/api/v1/namespaces/no-such", "", 404},
		"start":                {"POST", workflowPath, startBody, 200},
		"start v1":             {"POST", "/api/v1" + workflowPath, startBody, 200},
		"start empty body":     {"POST", workflowPath, "", 400},
		"start no object":      {"POST", workflowPath, "[]", 400},
		"start unknown field":  {"POST", workflowPath, `{"noSuchField": 1}`, 400},
		"start bad enum":       {"POST", workflowPath, `{"workflowIdReusePolicy": "Nonsense"}`, 400},
		"start long enum": {"POST", workflowPath,
			`{"workflowIdReusePolicy": "WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE",` + startBody[1:], 200},
		"start short enum":    {"POST", workflowPath, `{"workflowIdReusePolicy": "RejectDuplicate",` + startBody[1:], 200},
		"start number enum":   {"POST", workflowPath, `{"workflowIdReusePolicy": 3,` + startBody[1:], 200},
		"start bad duration":  {"POST", workflowPath, `{"workflowRunTimeout": "5 minutes"}`, 400},
		"start too large":     {"POST", workflowPath, `{"identity": "` + text(httpBodyMax) + `"}`, 400},
		"describe":            {"GET", workflowPath, "", 200},
		"describe snake case": {"GET", workflowPath + "?execution.run_id=not-a-uuid", "", 400},
		"describe camel case": {"GET", workflowPath + "?execution.runId=not-a-uuid", "", 400},
		"unknown parameter":   {"GET", workflowPath + "?noSuchParameter=1", "", 200},
		"bad filter":          {"GET", workflowPath + "/history?historyEventFilterType=Nonsense", "", 400},
		"bad page token":      {"GET", workflowPath + "/history?nextPageToken=!!!", "", 400},
		"signal":              {"POST", workflowPath + "/signal/Signal", `{"input": [null]}`, 200},
		"rules":               {"GET", "/namespaces/" + testNamespace + "/workflow-rules", "", 501},
		"no binding":          {"POST", "/namespaces/" + testNamespace + "/poll-workflow-task-queue", "{}", 404},
		"wrong method":        {"DELETE", workflowPath, "", 501},
		"operator service":    {"GET", "/cluster/namespaces/" + testNamespace + "/search-attributes", "", 200},
	} {
		t.Run(name, func(t *testing.T) {
			code, body := serveHTTPRequest(gateway, c.method, c.target, c.body)
			require.Equal(t, c.want, code, body)
		})
	}
}

func TestHTTPRequest(t *testing.T) {
	e := newEnv(t)
	gateway := newGateway(t, e)
	for escaped, id := range map[string]string{"plain": "plain", "100%25": "100%", "%2541": "%41", "a%2Fb%20c": "a/b c"} {
		code, body := serveHTTPRequest(gateway, "POST", "/namespaces/"+testNamespace+"/workflows/"+escaped, startBody)
		require.Equal(t, 200, code, body)
		require.Equal(t, id, onlyCall[*historypb.StartWorkflowExecutionRequest](t, e.history).GetRequest().GetWorkflowId())
	}
	code, body := serveHTTPRequest(gateway, "POST", workflowPath, startBody)
	require.Equal(t, 200, code, body)
	got := onlyCall[*historypb.StartWorkflowExecutionRequest](t, e.history).GetRequest()
	require.Len(t, got.GetInput().GetPayloads(), 3)
	require.Equal(t, `"text"`, string(got.GetInput().GetPayloads()[0].GetData()))
	require.Equal(t, "binary/null", string(got.GetInput().GetPayloads()[2].GetMetadata()["encoding"]))
}

func TestHTTPErrors(t *testing.T) {
	e := newEnv(t)
	e.history.fails(serviceerror.NewWorkflowExecutionAlreadyStarted("running", "r", testRunID))
	code, body := serveHTTPRequest(newGateway(t, e), "POST", workflowPath, startBody)
	require.Equal(t, 409, code)
	var answer struct {
		Code    int
		Message string
		Details []map[string]any
	}
	require.NoError(t, json.Unmarshal([]byte(body), &answer))
	require.Equal(t, 6, answer.Code)
	require.Equal(t, "running", answer.Message)
	require.Equal(t, testRunID, answer.Details[0]["runId"])
	require.Contains(t, answer.Details[0]["@type"], "WorkflowExecutionAlreadyStartedFailure")
}

func TestHTTPClientHeaders(t *testing.T) {
	e := newEnv(t)
	gateway := newGateway(t, e)
	code, _ := serveHTTPRequest(gateway, "GET", workflowPath, "", "Client-Name", clientUI, "Client-Version", "3.0.0")
	require.Equal(t, 400, code)
	// The gateway itself is a client that is always served.
	code, _ = serveHTTPRequest(gateway, "GET", workflowPath, "")
	require.Equal(t, 200, code)
}

func TestHTTPForms(t *testing.T) {
	e := newEnv(t)
	gateway := newGateway(t, e)
	e.history.answers(func(_ context.Context, _ string, _, reply proto.Message) error {
		proto.Merge(reply, &workflowservice.GetWorkflowExecutionHistoryResponse{History: &historyapi.History{Events: []*historyapi.HistoryEvent{{
			Attributes: &historyapi.HistoryEvent_WorkflowExecutionStartedEventAttributes{
				WorkflowExecutionStartedEventAttributes: &historyapi.WorkflowExecutionStartedEventAttributes{
					Input: &commonpb.Payloads{Payloads: []*commonpb.Payload{payload(`"text"`)}}}}}}}})
		return nil
	})
	const path = workflowPath + "/history"
	const short, full = `"input":["text"]`, `"input":{"payloads":[{`
	for name, c := range map[string]struct {
		target, accept string
		want           string
		lines          bool
	}{
		"plain":                         {path, "", short, false},
		"any":                           {path, "*/*", short, false},
		"pretty parameter":              {path + "?pretty", "", short, true},
		"pretty type":                   {path, mimePretty, short, true},
		"no shorthand parameter":        {path + "?noPayloadShorthand", "", full, false},
		"no shorthand type":             {path, mimeNoShorthand, full, false},
		"pretty, no shorthand":          {path, mimePrettyNoShorthand, full, true},
		"pretty, no shorthand by query": {path + "?pretty&noPayloadShorthand", "", full, true},
	} {
		t.Run(name, func(t *testing.T) {
			code, body := serveHTTPRequest(gateway, "GET", c.target, "", "Accept", c.accept)
			require.Equal(t, 200, code, body)
			require.Equal(t, c.lines, strings.Contains(body, "\n"), body)
			require.Contains(t, strings.Join(strings.Fields(body), ""), c.want)
		})
	}
}
