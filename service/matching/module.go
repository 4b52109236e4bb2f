package matching

import (
	"context"

	"go.uber.org/fx"

	matchingpb "github.com/perdure/perdure/api/matching/v1"
)

// Module is the matching service as a part of a program. The program supplies Params.
var Module = fx.Module("matching",
	fx.Provide(
		New,
		func(s *Service) matchingpb.MatchingServiceServer { return s },
	),
	fx.Invoke(func(lifecycle fx.Lifecycle, s *Service) {
		lifecycle.Append(fx.Hook{
			OnStart: func(ctx context.Context) error { return s.Start(ctx) },
			OnStop:  func(ctx context.Context) error { return s.Stop(ctx) },
		})
	}),
)
