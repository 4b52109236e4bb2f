package frontend

import (
	"github.com/google/uuid"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"

	tokenpb "github.com/perdure/perdure/api/token/v1"
	"github.com/perdure/perdure/namespace"
)

// tokened is the answer to a task.
type tokened interface {
	namespaced
	GetTaskToken() []byte
}

// tokenNamespace returns the id of the namespace that a token was made in.
func tokenNamespace(r tokened) (string, error) {
	if q, ok := r.(*workflowservice.RespondQueryTaskCompletedRequest); ok {
		token, err := decodeQueryToken(q.GetTaskToken())
		return token.GetNamespaceId(), err
	}
	token, err := decodeTaskToken(r.GetTaskToken())
	return token.GetNamespaceId(), err
}

// taskToken decodes the token of a request and checks that it belongs to the request's namespace.
func taskToken(r tokened, n *namespace.Namespace) (*tokenpb.Task, error) {
	token, err := decodeTaskToken(r.GetTaskToken())
	if err != nil {
		return nil, err
	}
	return token, checkTokenNamespace(token.GetNamespaceId(), n)
}

// queryToken decodes the token of a query task and checks that it belongs to the request's namespace.
func queryToken(r *workflowservice.RespondQueryTaskCompletedRequest, n *namespace.Namespace) (*tokenpb.Query, error) {
	token, err := decodeQueryToken(r.GetTaskToken())
	if err != nil {
		return nil, err
	}
	return token, checkTokenNamespace(token.GetNamespaceId(), n)
}

func checkTokenNamespace(id string, n *namespace.Namespace) error {
	if id != n.ID() {
		return serviceerror.NewInvalidArgument("Operation requested with a token from a different namespace.")
	}
	return nil
}

func decodeTaskToken(data []byte) (*tokenpb.Task, error) {
	token := &tokenpb.Task{}
	if err := decodeToken(data, token); err != nil {
		return nil, err
	}
	if uuid.Validate(token.GetNamespaceId()) != nil || token.GetWorkflowId() == "" || token.GetRunId() == "" {
		return nil, errBadToken()
	}
	return token, nil
}

func decodeQueryToken(data []byte) (*tokenpb.Query, error) {
	token := &tokenpb.Query{}
	if err := decodeToken(data, token); err != nil {
		return nil, err
	}
	if uuid.Validate(token.GetNamespaceId()) != nil || token.GetTaskQueue() == "" || token.GetQueryId() == "" {
		return nil, errBadToken()
	}
	return token, nil
}

func decodeToken(data []byte, token proto.Message) error {
	if len(data) == 0 {
		return serviceerror.NewInvalidArgument("Task token not set on request.")
	}
	if err := proto.Unmarshal(data, token); err != nil {
		return errBadToken()
	}
	return nil
}

func errBadToken() error {
	return serviceerror.NewInvalidArgument("Error deserializing task token.")
}
