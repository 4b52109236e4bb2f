package persistencetest

import (
	"fmt"
	"math"

	"github.com/stretchr/testify/require"

	"github.com/perdure/perdure/persistence"
)

var historyTests = []namedTest{
	{"ranges", testHistoryRanges},
	{"limits", testHistoryLimits},
	{"paging through a long run", testHistoryPaging},
	{"after a trim", testHistoryAfterTrim},
	{"only events are read", testHistoryContent},
	{"of nothing", testHistoryOfNothing},
}

// history reads with limits that do not matter.
func (x *execution) history(from, to int64, reverse bool) []int64 {
	x.e.Helper()
	return x.page(persistence.HistoryRange{From: from, To: to, Reverse: reverse, RowsMax: 1000, BytesMax: 1 << 20})
}

func (x *execution) page(r persistence.HistoryRange) []int64 {
	x.e.Helper()
	r.RunID = x.run
	rows, err := x.store.ReadHistory(x.e.ctx, r)
	require.NoError(x.e, err)
	return seqsOf(rows)
}

// startLog has the rows 1: events 1–2, 2: none, 3: 3–5, 4: 6, 5: none, 6: 7–10, 7: none.
func (e *env) startLog() *execution {
	x := e.start("a")
	x.logOf(0, 3, 1, 0, 4, 0)
	return x
}

func testHistoryRanges(e *env) {
	x := e.startLog()
	for _, c := range []struct {
		from, to int64
		want     []int64
	}{
		{1, 10, []int64{1, 3, 4, 6}},
		{1, math.MaxInt64, []int64{1, 3, 4, 6}},
		{1, 1, []int64{1}},
		{2, 3, []int64{1, 3}},
		{3, 5, []int64{3}},
		{4, 6, []int64{3, 4}},
		{5, 5, []int64{3}},
		{6, 7, []int64{4, 6}},
		{7, 7, []int64{6}},
		{8, 100, []int64{6}},
		{10, 10, []int64{6}},
	} {
		require.Equal(e, c.want, x.history(c.from, c.to, false), "%d to %d", c.from, c.to)
		reversed := make([]int64, len(c.want))
		for i, seq := range c.want {
			reversed[len(c.want)-1-i] = seq
		}
		require.Equal(e, reversed, x.history(c.from, c.to, true), "%d to %d, reverse", c.from, c.to)
	}
	require.Empty(e, x.history(5, 4, false))
}

func testHistoryLimits(e *env) {
	x := e.startLog()
	row := len(content("events", 1))
	for _, c := range []struct {
		rows, bytes int
		forth, back []int64
	}{
		{1, 1 << 20, []int64{1}, []int64{6}},
		{3, 1 << 20, []int64{1, 3, 4}, []int64{6, 4, 3}},
		{100, 1, []int64{1}, []int64{6}},
		{100, 2 * row, []int64{1, 3}, []int64{6, 4}},
		{100, 3*row - 1, []int64{1, 3}, []int64{6, 4}},
	} {
		name := fmt.Sprintf("%d rows, %d bytes", c.rows, c.bytes)
		require.Equal(e, c.forth, x.page(persistence.HistoryRange{From: 1, To: 10, RowsMax: c.rows, BytesMax: c.bytes}), name)
		require.Equal(e, c.back, x.page(persistence.HistoryRange{From: 1, To: 10, RowsMax: c.rows, BytesMax: c.bytes, Reverse: true}), name)
	}
}

// testHistoryPaging reads a run page by page, as a poller does: it goes on with the event that the last page ended before.
func testHistoryPaging(e *env) {
	x := e.start("a")
	var want []int64
	for i := range int64(150) {
		x.must(x.next(i % 4))
	}
	for _, row := range x.rows() {
		if len(row.Events) > 0 {
			want = append(want, row.Seq)
		}
	}
	ends := map[int64]int64{} // by number of the row, its last event
	for i, row := range x.rows() {
		ends[row.Seq] = x.events
		if i > 0 {
			ends[row.Seq-1] = row.FirstEventID - 1
		}
	}
	var got []int64
	for from := int64(1); from <= x.events; {
		page := x.page(persistence.HistoryRange{From: from, To: x.events, RowsMax: 7, BytesMax: 1 << 20})
		require.NotEmpty(e, page)
		got = append(got, page...)
		from = ends[page[len(page)-1]] + 1
	}
	require.Equal(e, want, got)
}

func testHistoryAfterTrim(e *env) {
	x := e.startLog()
	w := x.next(1)
	w.Snapshot = &persistence.Snapshot{Seq: 8, Parts: []byte("eight")}
	x.must(w)
	require.Equal(e, []int64{1, 3, 4, 6, 8}, x.history(1, 11, false))
	require.Equal(e, []int64{8, 6}, x.history(9, 11, true))
	require.Equal(e, []int64{3, 4}, x.history(4, 6, false))
}

func testHistoryContent(e *env) {
	x := e.startLog()
	rows, err := e.store.ReadHistory(e.ctx, persistence.HistoryRange{RunID: x.run, From: 3, To: 6, RowsMax: 10, BytesMax: 1 << 20})
	require.NoError(e, err)
	require.Equal(e, []persistence.Transition{
		{Seq: 3, FirstEventID: 3, Events: content("events", 3)}, {Seq: 4, FirstEventID: 6, Events: content("events", 4)},
	}, rows)
}

func testHistoryOfNothing(e *env) {
	e.startLog()
	for _, run := range []string{newRunID(), "not a run id"} {
		for _, reverse := range []bool{false, true} {
			rows, err := e.store.ReadHistory(e.ctx, persistence.HistoryRange{RunID: run, From: 1, To: 10, RowsMax: 1, BytesMax: 1, Reverse: reverse})
			if err != nil {
				require.ErrorIs(e, err, persistence.ErrNotFound)
			}
			require.Empty(e, rows)
		}
	}
}
