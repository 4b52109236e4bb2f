package history

import (
	"context"

	"go.uber.org/fx"

	historypb "github.com/perdure/perdure/api/history/v1"
)

// Module is the history service as a part of a program. The program supplies Params.
var Module = fx.Module("history",
	fx.Provide(
		New,
		func(s *Service) historypb.HistoryServiceServer { return s },
	),
	fx.Invoke(func(lifecycle fx.Lifecycle, s *Service) {
		lifecycle.Append(fx.Hook{
			OnStart: func(ctx context.Context) error { return s.Start(ctx) },
			OnStop:  func(ctx context.Context) error { return s.Stop(ctx) },
		})
	}),
)
