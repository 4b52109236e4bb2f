package cluster

import (
	"context"
	"strings"

	"go.temporal.io/api/serviceerror"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	clusterpb "github.com/perdure/perdure/api/cluster/v1"
	historypb "github.com/perdure/perdure/api/history/v1"
	matchingpb "github.com/perdure/perdure/api/matching/v1"
)

// NewServer makes the gRPC server at which the other members call this one. It serves what members ask each other; the services
// are to be registered with it. It answers nothing of theirs while this member is not Valid, and nothing of a partition that is
// another member's.
func (m *Membership) NewServer(options ...grpc.ServerOption) *grpc.Server {
	g := &serverGuard{m: m, history: historyMethods()}
	options = append(options, grpc.ChainUnaryInterceptor(g.intercept))
	if m.params.Certs != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(m.params.Certs.Server("h2"))))
	}
	server := NewServer(options...)
	clusterpb.RegisterClusterServiceServer(server, &service{m: m})
	return server
}

type serverGuard struct {
	m       *Membership
	history map[string]method
}

func (g *serverGuard) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	service, name, _ := strings.Cut(strings.TrimPrefix(info.FullMethod, "/"), "/")
	read := false
	switch service {
	case historypb.HistoryService_ServiceDesc.ServiceName:
		read = g.history[name].read
	case matchingpb.MatchingService_ServiceDesc.ServiceName:
		if err := g.m.checkPartition(ctx, req); err != nil {
			return nil, err
		}
	default:
		return handle(ctx, req)
	}
	var reply any
	err := g.m.guard(read, func() (err error) {
		reply, err = handle(ctx, req)
		return err
	})
	return reply, err
}

// guard lets a call of a service through while this member may answer. What a call has read must hold when it is answered; what
// it has written holds anyway.
func (m *Membership) guard(read bool, call func() error) error {
	if !m.Valid() {
		return errMoved("this host has lost contact with the database; try again", "")
	}
	err := call()
	if read && err == nil && !m.Valid() {
		return serviceerror.NewUnavailable("this host has lost contact with the database; try again")
	}
	return err
}

// checkPartition refuses what is for a partition of another member: two owners would each have half of its tasks and pollers.
// Who asks may know more than this member, so it looks again before it refuses. To end polls is harmless anywhere.
func (m *Membership) checkPartition(ctx context.Context, req any) error {
	p, ok := req.(partitioned)
	if _, cancel := req.(*matchingpb.CancelPollsRequest); !ok || cancel {
		return nil
	}
	owner, known := m.View().PartitionOwner(p.GetPartition())
	if owner.ID == m.self.ID {
		return nil
	}
	if m.Refresh(ctx) == nil {
		owner, known = m.View().PartitionOwner(p.GetPartition())
	}
	switch {
	case owner.ID == m.self.ID:
		return nil
	case known:
		return errMoved("the task queue partition has another owner; try again", owner.Address)
	}
	return errMoved("the task queue partition has no owner; try again", "")
}

// errMoved sends a caller to the owner, where it is known: nothing has been done.
func errMoved(message, owner string) error {
	st := status.New(codes.Unavailable, message)
	if detailed, err := st.WithDetails(&clusterpb.Moved{OwnerAddress: owner}); err == nil {
		st = detailed
	}
	return serviceerror.FromStatus(st)
}
