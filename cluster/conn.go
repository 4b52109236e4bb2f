// Package cluster is how the processes of a cluster reach each other: connections between services and the translation of
// errors on their way. Addresses are static here: one history and one matching process.
package cluster

import (
	"context"
	"fmt"
	"time"

	"go.temporal.io/api/serviceerror"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

const (
	// messageMax bounds a message between services: larger than anything that the public API lets in.
	messageMax = 64 << 20
	// A dead peer is noticed after pingInterval + pingTimeout.
	pingInterval = 10 * time.Second
	pingTimeout  = 3 * time.Second
)

// Dial makes a connection to another service. It connects when first used and reconnects by itself. Its calls return
// serviceerror types, as calls within one process do.
func Dial(address string) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient(address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(fromStatus),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageMax), grpc.MaxCallSendMsgSize(messageMax)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingInterval, Timeout: pingTimeout, PermitWithoutStream: true}),
	)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", address, err)
	}
	return conn, nil
}

func fromStatus(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, req, reply, conn, opts...)
	if err == nil {
		return nil
	}
	return serviceerror.FromStatus(status.Convert(err))
}

// NewServer makes a gRPC server for calls between services.
func NewServer() *grpc.Server {
	return grpc.NewServer(
		grpc.UnaryInterceptor(toStatus),
		grpc.MaxRecvMsgSize(messageMax), grpc.MaxSendMsgSize(messageMax),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingInterval / 2, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingInterval, Timeout: pingTimeout}),
	)
}

func toStatus(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	reply, err := handle(ctx, req)
	if err == nil {
		return reply, nil
	}
	if ctx.Err() != nil {
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	st := serviceerror.ToStatus(err)
	if st.Code() == codes.Unknown {
		st = status.New(codes.Internal, err.Error())
	}
	return nil, st.Err()
}
