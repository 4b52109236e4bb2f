package sqlite

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/perdure/perdure/persistence"
)

// BenchmarkCommit appends transitions of 600 bytes to as many runs as there are callers. Every fifth writes visibility, about as a
// simple workflow does.
func BenchmarkCommit(b *testing.B) {
	for _, place := range []string{"memory", "file"} {
		for _, callers := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("%s/callers=%d", place, callers), func(b *testing.B) {
				path := ""
				if place == "file" {
					path = filepath.Join(b.TempDir(), "bench.db")
				}
				benchmarkCommit(b, open(b, path), callers)
			})
		}
	}
}

func benchmarkCommit(b *testing.B, store *Store, callers int) {
	defer func() { require.NoError(b, store.Close()) }()
	epochs := takeAll(b, store)
	writers := make([]*benchWriter, callers)
	for i := range writers {
		writers[i] = newBenchWriter(store, epochs, i)
	}
	b.ReportAllocs()
	b.ResetTimer()
	var group sync.WaitGroup
	for i, w := range writers {
		n := b.N / callers
		if i < b.N%callers {
			n++
		}
		group.Go(func() {
			for range n {
				if err := w.commit(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
}

type benchWriter struct {
	store *Store
	key   persistence.ExecutionKey
	epoch persistence.Epoch
	run   string
	seq   int64
	bytes []byte
}

func newBenchWriter(store *Store, epochs map[persistence.ShardID]persistence.Epoch, i int) *benchWriter {
	w := &benchWriter{store: store, run: uuid.Must(uuid.NewV7()).String(), bytes: make([]byte, 300),
		key: persistence.ExecutionKey{NamespaceID: uuid.NewString(), Kind: persistence.KindWorkflow, BusinessID: fmt.Sprint("workflow-", i)}}
	w.epoch = epochs[w.key.Shard()]
	return w
}

func takeAll(b *testing.B, store *Store) map[persistence.ShardID]persistence.Epoch {
	all := make([]persistence.ShardID, persistence.ShardCount)
	for i := range all {
		all[i] = persistence.ShardID(i)
	}
	epochs, err := store.TakeShards(context.Background(), "bench", all)
	require.NoError(b, err)
	return epochs
}

func (w *benchWriter) commit() error {
	w.seq++
	r := persistence.RunWrite{RunID: w.run, Insert: w.seq == 1, Open: true, Status: 1,
		Transition: &persistence.Transition{Seq: w.seq, FirstEventID: w.seq, Events: w.bytes, Parts: w.bytes}}
	if w.seq%5 == 1 {
		r.Visibility = &persistence.VisibilityRow{NamespaceID: w.key.NamespaceID, RunID: w.run, WorkflowID: w.key.BusinessID, HistoryLength: w.seq}
	}
	return w.store.Commit(context.Background(), &persistence.Mutation{Key: w.key, Epoch: w.epoch, Runs: []persistence.RunWrite{r}})
}

// BenchmarkOpen is what a development server waits for when it starts.
func BenchmarkOpen(b *testing.B) {
	for range b.N {
		require.NoError(b, open(b, "").Close())
	}
}

// BenchmarkTakeAllShards is the other thing.
func BenchmarkTakeAllShards(b *testing.B) {
	store := open(b, "")
	defer func() { require.NoError(b, store.Close()) }()
	for b.Loop() {
		takeAll(b, store)
	}
}
