package frontend

import (
	"context"
	"fmt"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Chain is what every call of the public API passes, however it came: over gRPC, over HTTP or from within the process.
type Chain struct {
	interceptors []grpc.UnaryServerInterceptor
	drainer      *drainer
	load         *gate
}

// ChainParams is what a chain is made of.
type ChainParams struct {
	Registry   Registry
	Logger     *zap.Logger
	Registerer prometheus.Registerer
	// Authentication runs before anything is looked up for a client.
	Authentication []grpc.UnaryServerInterceptor
	// Limits run last, where the namespace and the client are known: authorization.
	Limits []grpc.UnaryServerInterceptor
	// Load bounds what is taken on; the zero value: nothing is refused.
	Load LoadLimits
}

// NewChain makes the chain of interceptors. It fails if the registerer has its metrics already.
func NewChain(p ChainParams) (*Chain, error) {
	metrics, err := newCallMetrics(p.Registerer)
	if err != nil {
		return nil, fmt.Errorf("register frontend metrics: %w", err)
	}
	load, err := newGate(p.Load, p.Registerer)
	if err != nil {
		return nil, fmt.Errorf("register frontend metrics: %w", err)
	}
	d := newDrainer()
	return &Chain{drainer: d, load: load, interceptors: slices.Concat(
		[]grpc.UnaryServerInterceptor{
			recoverer{p.Logger}.intercept, // first: nothing that follows may end the process
			metrics.intercept,             // outside of the mapper: it counts the codes that clients see
			errorMapper{p.Logger}.intercept,
			d.intercept,
			load.enter, // before anything that costs more than to refuse
		},
		p.Authentication,
		[]grpc.UnaryServerInterceptor{
			namespaceLookup{p.Registry}.intercept,
			newVersionCheck().intercept,
		},
		p.Limits,
		// last: who may not make a call does not use up the rate of those who may
		[]grpc.UnaryServerInterceptor{load.limit},
	)}, nil
}

// Intercept runs the chain around a handler.
func (c *Chain) Intercept(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	for _, interceptor := range slices.Backward(c.interceptors) {
		next := handler
		handler = func(ctx context.Context, request any) (any, error) {
			return interceptor(ctx, request, info, next)
		}
	}
	return handler(ctx, request)
}

// Drain ends the calls that wait, now and from now on: their clients ask again, elsewhere.
func (c *Chain) Drain() { c.drainer.drain() }

// recoverer turns a panic into INTERNAL.
type recoverer struct {
	logger *zap.Logger
}

func (r recoverer) intercept(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (response any, err error) {
	defer func() {
		if p := recover(); p != nil {
			r.logger.Error("panic in a request", append(logFields(ctx, info.FullMethod, request), zap.Any("panic", p), zap.StackSkip("stack", 1))...)
			response, err = nil, status.Error(codes.Internal, masked("panic"))
		}
	}()
	return next(ctx, request)
}

// namespaceLookup puts the namespace of a request into its context, or refuses the request.
type namespaceLookup struct {
	registry Registry
}

func (l namespaceLookup) intercept(ctx context.Context, request any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	r, ok := request.(namespaced)
	if !ok || ownNamespaceRules(request) {
		return next(ctx, request)
	}
	n, err := resolve(ctx, l.registry, r)
	if err != nil {
		return nil, err
	}
	return next(withNamespace(ctx, n), request)
}

// isLongPoll tells whether the time that a request takes is mostly spent waiting for others: workers, events, tasks.
func isLongPoll(request any) bool {
	switch r := request.(type) {
	case *workflowservice.PollWorkflowTaskQueueRequest,
		*workflowservice.PollActivityTaskQueueRequest,
		*workflowservice.PollNexusTaskQueueRequest,
		*workflowservice.PollWorkflowExecutionUpdateRequest,
		*workflowservice.PollActivityExecutionRequest,
		*workflowservice.PollNexusOperationExecutionRequest,
		*workflowservice.UpdateWorkflowExecutionRequest,
		*workflowservice.ExecuteMultiOperationRequest,
		*workflowservice.QueryWorkflowRequest:
		return true
	case *workflowservice.GetWorkflowExecutionHistoryRequest:
		return r.GetWaitNewEvent()
	default:
		return false
	}
}

// drainer lets a server stop without waiting for long polls.
type drainer struct {
	ctx   context.Context
	drain context.CancelFunc
}

func newDrainer() *drainer {
	ctx, cancel := context.WithCancel(context.Background())
	return &drainer{ctx: ctx, drain: cancel}
}

func (d *drainer) intercept(ctx context.Context, request any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if !isLongPoll(request) {
		return next(ctx, request)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.ctx, cancel)()
	response, err := next(ctx, request)
	if err != nil && d.ctx.Err() != nil {
		return nil, serviceerror.NewUnavailable("The server is shutting down. Please retry.")
	}
	return response, err
}
