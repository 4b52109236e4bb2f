package matching

import (
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// exportBacklog exports what is stored in the partitions of this host, counted when it is asked for. nil: nobody asks.
func (s *Service) exportBacklog(registerer prometheus.Registerer) {
	if registerer == nil {
		return
	}
	registerer.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "perdure", Subsystem: "matching", Name: "backlog_tasks", Help: "Stored tasks of the partitions that are loaded.",
	}, func() float64 { return float64(s.storedTasks()) }))
}

// storedTasks counts the rows of the loaded partitions.
func (s *Service) storedTasks() (sum int64) {
	s.mu.Lock()
	loaded := slices.Collect(maps.Values(s.partitions))
	s.mu.Unlock()
	for _, p := range loaded {
		p.mu.Lock()
		if p.backlog != nil {
			for _, l := range p.backlog.levels {
				if l != nil {
					sum += l.stored
				}
			}
		}
		p.mu.Unlock()
	}
	return sum
}

// Loaded is the number of partitions that this host has in memory.
func (s *Service) Loaded() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.partitions)
}
