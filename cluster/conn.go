package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"go.temporal.io/api/serviceerror"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

const (
	// messageMax bounds a message between services: larger than anything that the public API lets in.
	messageMax = 64 << 20
	// A connection to a host that is gone without a word ends after keepaliveInterval (gRPC allows no shorter one) and
	// keepaliveTimeout. Members notice earlier, by pings.
	keepaliveInterval = 10 * time.Second
	keepaliveTimeout  = 3 * time.Second
	// A lost connection is tried again after reconnectMin, and at least every reconnectMax: a member that is back is used at once.
	reconnectMin = 50 * time.Millisecond
	reconnectMax = time.Second
	// dialTimeout bounds one attempt to connect.
	dialTimeout = 2 * time.Second
	// answeredKey is set in the trailer of every error that a server answered: it tells its UNAVAILABLE from that of a connection.
	answeredKey = "perdure-answered"
)

// Dial makes a connection to another service. It connects when first used and reconnects by itself. Its calls return
// serviceerror types, as calls within one process do. Without credentials among the options it is not encrypted.
func Dial(address string, options ...grpc.DialOption) (*grpc.ClientConn, error) {
	// passthrough: the name is looked up at each attempt to connect, and not kept.
	conn, err := grpc.NewClient("passthrough:///"+address, append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(fromStatus),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageMax), grpc.MaxCallSendMsgSize(messageMax)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveInterval, Timeout: keepaliveTimeout, PermitWithoutStream: true}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: reconnectMin, Multiplier: 1.6, Jitter: 0.2, MaxDelay: reconnectMax},
			MinConnectTimeout: dialTimeout,
		}),
	}, options...)...)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", address, err)
	}
	return conn, nil
}

// attempt is what became of one call on a connection.
type attempt struct {
	sent     bool // it may have reached the server
	answered bool // an error is the server's, not the connection's
}

type attemptKey struct{}

func fromStatus(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	a, _ := ctx.Value(attemptKey{}).(*attempt)
	if a == nil {
		return fromError(invoke(ctx, method, req, reply, conn, opts...))
	}
	var (
		trailer metadata.MD
		server  grpcpeer.Peer
	)
	err := invoke(ctx, method, req, reply, conn, append(opts[:len(opts):len(opts)], grpc.Trailer(&trailer), grpc.Peer(&server))...)
	if err == nil {
		return nil
	}
	a.sent, a.answered = server.Addr != nil, len(trailer.Get(answeredKey)) > 0
	return fromError(err)
}

func fromError(err error) error {
	if err == nil {
		return nil
	}
	return serviceerror.FromStatus(status.Convert(err))
}

// NewServer makes a gRPC server for calls between services.
func NewServer(options ...grpc.ServerOption) *grpc.Server {
	return grpc.NewServer(append([]grpc.ServerOption{
		grpc.ChainUnaryInterceptor(toStatus),
		grpc.MaxRecvMsgSize(messageMax), grpc.MaxSendMsgSize(messageMax),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveInterval / 2, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveInterval, Timeout: keepaliveTimeout}),
	}, options...)...)
}

func toStatus(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	reply, err := handle(ctx, req)
	if err == nil {
		return reply, nil
	}
	// It fails only when the response is on its way, which it is not; then the error would look like the connection's.
	_ = grpc.SetTrailer(ctx, metadata.Pairs(answeredKey, "1"))
	if ctx.Err() != nil {
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	st := serviceerror.ToStatus(err)
	if st.Code() == codes.Unknown {
		st = status.New(codes.Internal, err.Error())
	}
	return nil, st.Err()
}

// link is the connection to one member.
type link struct {
	conn *grpc.ClientConn
	// refused: nobody listened at the address when it was last dialed.
	refused atomic.Bool
}

func newLink(address string, creds credentials.TransportCredentials, more ...grpc.DialOption) (*link, error) {
	l := &link{}
	dialer := net.Dialer{Timeout: dialTimeout}
	options := append(more[:len(more):len(more)], grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, "tcp", address)
		l.refused.Store(errors.Is(err, syscall.ECONNREFUSED))
		return conn, err
	}))
	if creds != nil {
		options = append(options, grpc.WithTransportCredentials(creds))
	}
	var err error
	l.conn, err = Dial(address, options...)
	return l, err
}
