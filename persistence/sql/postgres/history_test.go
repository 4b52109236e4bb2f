package postgres

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/perdure/perdure/persistence"
)

// TestHistoryRangesOfALongRun compares with what the contract says about ranges, at random, on a run with rows without events and gaps.
func TestHistoryRangesOfALongRun(t *testing.T) {
	ctx := context.Background()
	url := database(t)
	s := open(t, Options{URL: url})
	random := rand.New(rand.NewPCG(1, 2))
	run := newRun()
	type row struct{ seq, first, last int64 }
	var rows []row // with events
	seqs, firsts, sizes := []int64{}, []int64{}, []int64{}
	event := int64(1)
	for seq := int64(1); seq <= 5000; seq++ {
		if random.IntN(10) == 0 {
			continue // deleted by a snapshot
		}
		events := random.Int64N(4)
		seqs, firsts, sizes = append(seqs, seq), append(firsts, event), append(sizes, events)
		if events > 0 {
			rows = append(rows, row{seq, event, event + events - 1})
		}
		event += events
	}
	_, err := connect(t, url).Exec(ctx, `INSERT INTO transitions (bucket, run_id, seq, first_event_id, events)
SELECT 0, $1, seq, first, CASE WHEN size > 0 THEN '\x0102'::bytea END FROM unnest($2::int8[], $3::int8[], $4::int8[]) AS u(seq, first, size)`,
		run, seqs, firsts, sizes)
	require.NoError(t, err)
	for range 300 {
		from := 1 + random.Int64N(event)
		to := from + random.Int64N(event)
		if random.IntN(3) == 0 {
			to = from
		}
		r := persistence.HistoryRange{RunID: run, From: from, To: to, RowsMax: 1 + random.IntN(50), BytesMax: 1 << 20, Reverse: random.IntN(2) == 0}
		var want []int64
		for _, row := range rows {
			if row.first <= to && row.last >= from {
				want = append(want, row.seq)
			}
		}
		if r.Reverse {
			slices.Reverse(want)
		}
		want = want[:min(len(want), r.RowsMax)]
		page, err := s.ReadHistory(ctx, r)
		require.NoError(t, err)
		var got []int64
		for _, row := range page {
			got = append(got, row.Seq)
		}
		if from >= event { // beyond the end, the last row may be there
			continue
		}
		require.Equal(t, want, got, "%+v", r)
	}
	// A page in the middle does not read the rest of the run.
	conn := connect(t, url)
	for _, sql := range []string{sqlReadHistory, sqlReadHistoryReverse} {
		tx, err := conn.Begin(ctx)
		require.NoError(t, err)
		_, err = tx.Exec(ctx, settingsCustom)
		require.NoError(t, err)
		var plan []byte
		err = tx.QueryRow(ctx, "EXPLAIN (ANALYZE, FORMAT JSON) "+sql, 0, run, event/2, event/2+20, 10, 1<<20).Scan(&plan)
		require.NoError(t, err)
		var plans []struct{ Plan planNode }
		require.NoError(t, json.Unmarshal(plan, &plans))
		rows := plans[0].Plan.rowsRead()
		require.Greater(t, rows, 10.0)
		require.Less(t, rows, 500.0)
		require.NoError(t, tx.Rollback(ctx))
	}
}

// planNode is a node of a plan in JSON.
type planNode struct {
	Rows    float64 `json:"Actual Rows"`
	Removed float64 `json:"Rows Removed by Filter"`
	Loops   float64 `json:"Actual Loops"`
	Plans   []planNode
}

// rowsRead is the number of rows that a plan's scans have looked at.
func (n planNode) rowsRead() float64 {
	rows := n.Removed * n.Loops
	if len(n.Plans) == 0 {
		rows += n.Rows * n.Loops
	}
	for _, child := range n.Plans {
		rows += child.rowsRead()
	}
	return rows
}
