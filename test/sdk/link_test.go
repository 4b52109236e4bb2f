package sdk

import (
	"context"
	"errors"
	"path"
	"strings"
	"sync"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/perdure/perdure/test/harness"
)

// link is a connection whose calls a test can see, and that it can cut: to the server, a worker behind a cut link has vanished.
type link struct {
	mu       sync.Mutex
	calls    []call
	inFlight map[string]int
	peak     map[string]int
	cutOff   chan struct{}
}

// call is one that has returned.
type call struct {
	method  string
	request any
	reply   any
	err     error
}

// dial makes a client over a link of its own.
func (e *env) dial(o client.Options) (client.Client, *link) {
	e.Helper()
	l := &link{inFlight: map[string]int{}, peak: map[string]int{}, cutOff: make(chan struct{})}
	o.HostPort, o.Logger = e.addr, harness.Quiet{}
	o.ConnectionOptions.DialOptions = append(o.ConnectionOptions.DialOptions, grpc.WithChainUnaryInterceptor(l.intercept))
	c, err := client.Dial(o)
	require.NoError(e, err)
	e.Cleanup(c.Close)
	return c, l
}

func (l *link) intercept(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	name := path.Base(method)
	outer := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if l.isCut() {
		return severed(outer, name)
	}
	l.begin(name)
	result := make(chan error, 1)
	go func() { result <- invoke(ctx, method, req, reply, cc, opts...) }()
	var err error
	select {
	case err = <-result:
	case <-l.cutOff:
		cancel()
		<-result // the reply must not be written any more
		return severed(outer, name)
	}
	l.end(call{name, req, reply, err})
	return err
}

// severed is what a caller behind a cut link sees: polls hang, the rest fails, so that the worker can still be stopped.
func severed(ctx context.Context, method string) error {
	if strings.HasPrefix(method, "Poll") {
		<-ctx.Done()
	}
	return status.Error(codes.PermissionDenied, "the link is cut")
}

func (l *link) isCut() bool {
	select {
	case <-l.cutOff:
		return true
	default:
		return false
	}
}

// cut ends the calls that wait and fails those to come.
func (l *link) cut() { close(l.cutOff) }

func (l *link) begin(method string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inFlight[method]++
	l.peak[method] = max(l.peak[method], l.inFlight[method])
}

func (l *link) end(c call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inFlight[c.method]--
	l.calls = append(l.calls, c)
}

// most is the highest number of calls of a method that were in flight at once.
func (l *link) most(method string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.peak[method]
}

// waiting is how many calls of a method are in flight.
func (l *link) waiting(method string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inFlight[method]
}

// seen returns the calls with that type of request, in the order in which they returned.
func seen[Request, Reply any](l *link) (requests []Request, replies []Reply) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.calls {
		request, isRequest := c.request.(Request)
		if reply, isReply := c.reply.(Reply); isRequest && isReply {
			requests, replies = append(requests, request), append(replies, reply)
		}
	}
	return requests, replies
}

// results returns the error of each call of a method that has returned, nil if there was none.
func (l *link) results(method string) []error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []error
	for _, c := range l.calls {
		if c.method == method {
			all = append(all, c.err)
		}
	}
	return all
}

// returned is how many calls of a method have returned.
func (l *link) returned(method string) int { return len(l.results(method)) }

// errorsOf returns the errors of a method's calls.
func (l *link) errorsOf(method string) error { return errors.Join(l.results(method)...) }
