package persistencetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/perdure/perdure/persistence"
)

var limitTests = []namedTest{
	{"parts of 1 MiB", testLargeParts},
	{"a mutation above the maximum", testTooLarge},
	{"many transitions in one mutation", testManyRuns},
}

// large is not compressible to nothing.
func large(size int) []byte {
	b := make([]byte, size)
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}

func testLargeParts(e *env) {
	x := e.start("a")
	const mib = 1 << 20
	w := x.next(1)
	w.Transition.Parts, w.Transition.Events = large(mib), large(3*mib)
	x.must(w)
	snapshot := x.next(1)
	snapshot.Snapshot = &persistence.Snapshot{Seq: x.seq, Parts: large(4 * mib)}
	x.must(snapshot)
	require.True(e, bytes.Equal(snapshot.Snapshot.Parts, x.load().Snapshot.Parts))
	rows := x.rows()
	require.True(e, bytes.Equal(w.Transition.Parts, rows[1].Parts))
	require.True(e, bytes.Equal(w.Transition.Events, rows[1].Events))
	require.Equal(e, []int64{1}, x.page(persistence.HistoryRange{From: 1, To: 10, RowsMax: 100, BytesMax: mib}))
	require.Equal(e, []int64{2}, x.page(persistence.HistoryRange{From: 3, To: 3, RowsMax: 100, BytesMax: mib}), "one row, however large")
}

// testTooLarge: every store takes mutations of 4 MiB, and none takes 64 MiB. A large one does not hold up the others.
func testTooLarge(e *env) {
	x, other := e.start("a"), e.start("b")
	w := x.next(1)
	w.Transition.Events = large(64 << 20)
	var group sync.WaitGroup
	group.Go(func() {
		if err := other.commit(other.next(1)); err != nil {
			e.Errorf("another run's commit: %v", err)
		}
	})
	require.ErrorIs(e, x.commit(w), persistence.ErrTooLarge)
	group.Wait()
	require.Equal(e, []int64{1}, x.seqs())
	x.seq = 1
	x.must(x.next(1))
}

func testManyRuns(e *env) {
	x := e.start("a")
	var runs []persistence.RunWrite
	for range 20 {
		runs = append(runs, persistence.RunWrite{RunID: newRunID(), Insert: true, Status: 2, Transition: &persistence.Transition{Seq: 1, FirstEventID: 1, Events: large(1000)}})
	}
	x.must(runs...)
	found, err := e.store.ListRuns(e.ctx, x.key, 100)
	require.NoError(e, err)
	require.Len(e, found, 21)
}

var concurrencyTests = []namedTest{
	{"many workflows at once", testManyWorkflows},
	{"a bad member fails alone", testBadMembers},
	{"writes to one run do not mix", testOneRunByMany},
	{"reads beside writes", testReadsBesideWrites},
	{"tasks of many queues beside transitions", testQueuesBesideTransitions},
	{"callers that give up", testImpatientCallers},
	{"one of many starts wins", testRacingStarts},
	{"close waits for commits", testCloseUnderLoad},
}

// testManyWorkflows: each goes through its transitions in order, all at the same time.
func testManyWorkflows(e *env) {
	const workflows, transitions = 32, 12
	var group sync.WaitGroup
	for i := range workflows {
		x := e.start(fmt.Sprint("many-", i))
		group.Go(func() {
			for range transitions {
				w := x.next(1)
				w.Visibility = visibilityRow(x.key, x.run)
				w.Visibility.HistoryLength = x.seq
				if err := x.commit(w); err != nil {
					e.Errorf("commit: %v", err)
					return
				}
				run, err := x.store.LoadRun(e.ctx, x.key, x.run)
				if err != nil || int64(len(run.Transitions)) != x.seq {
					e.Errorf("what was acknowledged is not there: %v, %v", run, err)
					return
				}
			}
		})
	}
	group.Wait()
	rows := e.listed(nil, nil, 100)
	require.Len(e, rows, workflows)
	for _, row := range rows {
		require.EqualValues(e, transitions+1, row.HistoryLength)
	}
}

// testBadMembers mixes good commits with such that conflict, are fenced or too large.
func testBadMembers(e *env) {
	const each = 16
	var group sync.WaitGroup
	check := func(want error, commit func() error) {
		group.Go(func() {
			if err := commit(); !errors.Is(err, want) {
				e.Errorf("%v instead of %v", err, want)
			}
		})
	}
	var good []*execution
	for i := range each {
		x, conflicting, fenced := e.start(fmt.Sprint("good-", i)), e.start(fmt.Sprint("conflicting-", i)), e.start(fmt.Sprint("fenced-", i))
		fenced.epoch += 100
		good = append(good, x)
		next, again, stale := x.next(1), conflicting.next(1), fenced.next(1)
		again.Transition.Seq = 1
		check(nil, func() error { return x.commit(next) })
		check(persistence.ErrConflict, func() error { return conflicting.commit(again) })
		check(persistence.ErrFenced, func() error { return fenced.commit(stale) })
	}
	group.Wait()
	for _, x := range good {
		require.Equal(e, []int64{1, 2}, x.seqs())
	}
}

// testOneRunByMany: mutations of one run that may share a group are merged, the later wins, and what is stored is one of them.
func testOneRunByMany(e *env) {
	x := e.start("a")
	const writers = 64
	var group sync.WaitGroup
	for i := range writers {
		n := int64(i + 2)
		w := persistence.RunWrite{RunID: x.run, SetStatus: true, Open: true, Status: int32(n), SetWakeAt: true, WakeAt: wake.Add(time.Duration(n) * time.Second),
			SetHasEffects: true, HasEffects: n%2 == 0, Visibility: visibilityRow(x.key, x.run),
			Transition: &persistence.Transition{Seq: n, FirstEventID: n + 1, Events: content("events", n), Parts: content("parts", n)}}
		w.Visibility.HistoryLength = n
		group.Go(func() {
			if err := x.commit(w); err != nil {
				e.Errorf("commit: %v", err)
			}
		})
	}
	group.Wait()
	run := x.load()
	require.Len(e, run.Transitions, writers+1, "every transition is appended")
	winner := int64(run.Status)
	require.WithinDuration(e, wake.Add(time.Duration(winner)*time.Second), run.WakeAt, 0)
	require.Equal(e, winner%2 == 0, run.HasEffects)
	require.Equal(e, winner, e.listed(nil, nil, 10)[0].HistoryLength)
}

// testReadsBesideWrites: a reader sees whole commits, and never an error.
func testReadsBesideWrites(e *env) {
	x := e.start("a")
	stop := make(chan struct{})
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := readAll(e, x); err != nil {
					e.Errorf("read: %v", err)
					return
				}
			}
		})
	}
	for i := range int64(150) {
		w := x.next(i % 2)
		if i%10 == 9 {
			w.Snapshot = &persistence.Snapshot{Seq: x.seq, Parts: content("snapshot", x.seq)}
		}
		x.must(w)
	}
	close(stop)
	group.Wait()
}

func readAll(e *env, x *execution) error {
	run, err := x.store.LoadRun(e.ctx, x.key, x.run)
	if err != nil {
		return err
	}
	last := int64(0)
	if run.Snapshot != nil {
		last = run.Snapshot.Seq
	}
	for _, t := range run.Transitions {
		if last++; t.Seq != last {
			return fmt.Errorf("transition %d after %d", t.Seq, last-1)
		}
	}
	if _, err := x.store.ReadHistory(e.ctx, persistence.HistoryRange{RunID: x.run, From: 1, To: 1 << 40, RowsMax: 1000, BytesMax: 1 << 20}); err != nil {
		return err
	}
	_, err = x.store.ListVisibility(e.ctx, e.namespace, nil, nil, 100)
	return err
}

func testQueuesBesideTransitions(e *env) {
	const queues, batches = 8, 10
	x := e.start("a")
	var group sync.WaitGroup
	for i := range queues {
		key := e.queue(int32(i))
		epoch := e.backlog(key)
		group.Go(func() {
			for b := range int64(batches) {
				tasks := tasksOf(persistence.TaskKey{Level: 1, ID: 2 * b}, persistence.TaskKey{Level: 1, ID: 2*b + 1})
				if err := e.store.WriteTasks(e.ctx, key, epoch, tasks); err != nil {
					e.Errorf("write tasks: %v", err)
				}
				done := persistence.TaskRange{Level: 1, To: persistence.TaskKey{ID: 2 * b}}
				if err := e.store.UpdateQueue(e.ctx, key, epoch, nil, []persistence.TaskRange{done}); err != nil {
					e.Errorf("update queue: %v", err)
				}
			}
		})
	}
	for range 20 {
		x.must(x.next(1))
	}
	group.Wait()
	for i := range queues {
		require.Equal(e, []persistence.TaskKey{{Level: 1, ID: 2*batches - 1}}, e.tasks(e.queue(int32(i)), 1, beforeAll, 100))
	}
}

// testImpatientCallers: a context that ends stops the wait, not the store, and a commit is there or not, whole.
func testImpatientCallers(e *env) {
	const callers = 32
	var (
		group sync.WaitGroup
		sure  [callers]atomic.Bool
		runs  [callers]*execution
	)
	for i := range callers {
		x := e.start(fmt.Sprint("impatient-", i))
		runs[i] = x
		w := x.next(1)
		w.Visibility = visibilityRow(x.key, x.run)
		group.Go(func() {
			ctx, cancel := context.WithTimeout(e.ctx, time.Duration(i)*50*time.Microsecond)
			defer cancel()
			err := x.store.Commit(ctx, &persistence.Mutation{Key: x.key, Epoch: x.epoch, Runs: []persistence.RunWrite{w}})
			switch {
			case err == nil:
				sure[i].Store(true)
			case !errors.Is(err, persistence.ErrUnavailable) && !errors.Is(err, persistence.ErrOutcomeUnknown):
				e.Errorf("%v", err)
			}
		})
	}
	group.Wait()
	for i, x := range runs {
		e.take(x.store, x.key) // settles what is unknown
		rows := x.rows()
		if sure[i].Load() {
			require.Len(e, rows, 2, "acknowledged")
		}
		id := persistence.Compare{Field: workflowID, Op: persistence.Equal, Value: x.key.BusinessID}
		require.Len(e, e.listed(id, nil, 10), len(rows)-1, "all of it or nothing")
	}
}

func testRacingStarts(e *env) {
	const starters = 24
	key := e.key("a")
	epoch := e.take(e.store, key)
	var (
		group sync.WaitGroup
		won   atomic.Int32
	)
	for range starters {
		x := &execution{e: e, store: e.store, key: key, epoch: epoch, run: newRunID()}
		w := x.first()
		group.Go(func() {
			switch err := x.commit(w); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, persistence.ErrConflict):
				e.Errorf("%v", err)
			}
		})
	}
	group.Wait()
	require.EqualValues(e, 1, won.Load())
	runs, err := e.store.ListRuns(e.ctx, key, 100)
	require.NoError(e, err)
	require.Len(e, runs, 1)
}

// testCloseUnderLoad: every commit is acknowledged and there, or refused and not there.
func testCloseUnderLoad(e *env) {
	store := e.opener(e.T)
	const writers = 16
	var (
		group sync.WaitGroup
		runs  [writers]*execution
		acks  [writers]int64
	)
	begun := make(chan struct{}, writers)
	for i := range writers {
		x := &execution{e: e, store: store, key: e.key(fmt.Sprint("close-", i)), run: newRunID()}
		x.epoch = e.own(store, x.key)
		x.must(x.first())
		runs[i], acks[i] = x, 1
		group.Go(func() {
			for {
				err := x.commit(x.next(1))
				if err != nil {
					if !errors.Is(err, persistence.ErrClosed) {
						e.Errorf("%v", err)
					}
					return
				}
				acks[i] = x.seq
				select {
				case begun <- struct{}{}:
				default:
				}
			}
		})
	}
	for range writers {
		<-begun
	}
	require.NoError(e, store.Close())
	group.Wait()
	for i, x := range runs {
		x.store = e.store
		require.Len(e, x.rows(), int(acks[i]))
	}
}
