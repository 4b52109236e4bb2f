package frontend

import (
	"context"

	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/perdure/perdure/telemetry"
)

// LocalConn is a client connection to the public API of the same process: the same chain of interceptors, no socket and no
// marshalling. Both sides share what is in the messages, so neither may change it.
type LocalConn struct {
	chain   *Chain
	methods map[string]localMethod
	tracing *telemetry.Tracing
}

type localMethod struct {
	server  any
	handler grpc.MethodHandler
}

var _ grpc.ClientConnInterface = (*LocalConn)(nil)

// NewLocalConn connects to the two services.
func NewLocalConn(chain *Chain, workflow workflowservice.WorkflowServiceServer, operator operatorservice.OperatorServiceServer) *LocalConn {
	c := &LocalConn{chain: chain, methods: make(map[string]localMethod)}
	c.add(&workflowservice.WorkflowService_ServiceDesc, workflow)
	c.add(&operatorservice.OperatorService_ServiceDesc, operator)
	return c
}

func (c *LocalConn) add(desc *grpc.ServiceDesc, server any) {
	for _, m := range desc.Methods {
		c.methods["/"+desc.ServiceName+"/"+m.MethodName] = localMethod{server: server, handler: m.Handler}
	}
}

// Invoke implements grpc.ClientConnInterface. The metadata of the outgoing context is what the service sees as headers.
func (c *LocalConn) Invoke(ctx context.Context, method string, args, reply any, _ ...grpc.CallOption) (err error) {
	m, ok := c.methods[method]
	if !ok {
		return status.Errorf(codes.Unimplemented, "unknown method %s", method)
	}
	headers, _ := metadata.FromOutgoingContext(ctx)
	ctx, span := c.tracing.Call(ctx, method, headers)
	defer func() { span.End(err) }()
	decode := func(request any) error { return shareInto(request, args) }
	response, err := m.handler(m.server, metadata.NewIncomingContext(ctx, headers), decode, c.chain.Intercept)
	if err != nil {
		return err
	}
	return shareInto(reply, response)
}

// NewStream implements grpc.ClientConnInterface. The public API has no streams.
func (c *LocalConn) NewStream(_ context.Context, _ *grpc.StreamDesc, method string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, status.Errorf(codes.Unimplemented, "method %s is not implemented: streams are not supported in process", method)
}

// shareInto makes one message a shallow copy of another.
func shareInto(to, from any) error {
	dst, ok := to.(proto.Message)
	src, isMessage := from.(proto.Message)
	if !ok || !isMessage || dst.ProtoReflect().Descriptor() != src.ProtoReflect().Descriptor() {
		return status.Errorf(codes.Internal, "in-process call: cannot pass a %T as a %T", from, to)
	}
	proto.Reset(dst)
	copyFields(dst.ProtoReflect(), src.ProtoReflect())
	return nil
}
