package cluster

import (
	"context"

	"go.temporal.io/api/serviceerror"

	clusterpb "github.com/perdure/perdure/api/cluster/v1"
	"github.com/perdure/perdure/persistence"
)

// service is what members ask each other.
type service struct {
	clusterpb.UnimplementedClusterServiceServer
	m *Membership
}

func (s *service) addressed(id string) error {
	if id != s.m.self.ID {
		return serviceerror.NewNotFound("another incarnation listens at this address")
	}
	return nil
}

// Ping implements ClusterService. It answers without doing anything that could block.
func (s *service) Ping(_ context.Context, req *clusterpb.PingRequest) (*clusterpb.PingResponse, error) {
	if err := s.addressed(req.GetMemberId()); err != nil {
		return nil, err
	}
	if req.GetPassedOver() {
		s.m.passedOver()
	}
	if req.GetRefresh() {
		s.m.refreshSoon()
	}
	return &clusterpb.PingResponse{Unanswered: s.m.isMute(req.GetFromId())}, nil
}

// ReleaseShards implements ClusterService.
func (s *service) ReleaseShards(ctx context.Context, req *clusterpb.ReleaseShardsRequest) (*clusterpb.ReleaseShardsResponse, error) {
	if err := s.addressed(req.GetMemberId()); err != nil {
		return nil, err
	}
	shards := s.m.shards.Load()
	if shards == nil {
		return &clusterpb.ReleaseShardsResponse{}, nil // it runs no history service
	}
	asked := make([]persistence.ShardID, 0, len(req.GetShardIds()))
	for _, id := range req.GetShardIds() {
		if id < 0 || id >= persistence.ShardCount {
			return nil, serviceerror.NewInvalidArgumentf("there is no shard %d", id)
		}
		asked = append(asked, persistence.ShardID(id))
	}
	kept, err := shards.give(ctx, req.GetNewOwnerId(), req.GetNewOwnerAddress(), asked)
	if err != nil {
		return nil, err
	}
	response := &clusterpb.ReleaseShardsResponse{}
	for _, shard := range kept {
		response.KeptShardIds = append(response.KeptShardIds, int32(shard))
	}
	return response, nil
}
