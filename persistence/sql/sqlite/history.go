package sqlite

import (
	"context"
	"errors"

	"github.com/perdure/perdure/persistence"
)

// Limits of one read of history whose caller names none.
const (
	historyRowsMax  = 1000
	historyBytesMax = 4 << 20
)

// ReadHistory implements [persistence.Executions]. Rows are found by sequence number, the only order that is stored; the numbers at
// the ends of the range are found by bisection, since first event ids grow with them.
func (s *Store) ReadHistory(ctx context.Context, r persistence.HistoryRange) ([]persistence.Transition, error) {
	if r.RowsMax <= 0 {
		r.RowsMax = historyRowsMax
	}
	if r.BytesMax <= 0 {
		r.BytesMax = historyBytesMax
	}
	var found []persistence.Transition
	err := s.read(ctx, "read history", func(ctx context.Context, c *conn) error {
		return c.snapshot(ctx, func() (err error) {
			found, err = c.history(ctx, r)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

func (c *conn) history(ctx context.Context, r persistence.HistoryRange) ([]persistence.Transition, error) {
	if r.To < r.From {
		return nil, nil
	}
	last, err := c.seqOf(ctx, r, r.To)
	if err != nil || last == 0 {
		return nil, err
	}
	first, err := c.seqOf(ctx, r, r.From)
	if err != nil {
		return nil, err
	}
	order := "ASC"
	if r.Reverse {
		order = "DESC"
	}
	text := `SELECT seq, first_event_id, events FROM transitions WHERE bucket = ? AND run_id = ? AND seq BETWEEN ? AND ? AND events IS NOT NULL
		ORDER BY seq ` + order + ` LIMIT ?`
	var (
		rows  []persistence.Transition
		bytes int
	)
	err = c.rows(ctx, text, []any{r.Bucket, r.RunID, first, last, r.RowsMax}, func(scan func(...any) error) (bool, error) {
		var t persistence.Transition
		if err := scan(&t.Seq, &t.FirstEventID, &t.Events); err != nil {
			return false, err
		}
		if bytes += len(t.Events); bytes > r.BytesMax && len(rows) > 0 {
			return false, nil
		}
		rows = append(rows, t)
		return true, nil
	})
	return rows, err
}

// seqOf returns the number of the last row that begins at an event or before it, 0 if there is none. If the event is in a row, it is
// in that one.
func (c *conn) seqOf(ctx context.Context, r persistence.HistoryRange, event int64) (int64, error) {
	const ends = `SELECT (SELECT MIN(seq) FROM transitions WHERE bucket = ?1 AND run_id = ?2), (SELECT MAX(seq) FROM transitions WHERE bucket = ?1 AND run_id = ?2)`
	var low, high *int64
	if err := c.row(ctx, ends, []any{r.Bucket, r.RunID}, &low, &high); err != nil || low == nil || high == nil {
		return 0, err
	}
	begins, ok, err := c.rowFrom(ctx, r, *high)
	if err != nil {
		return 0, err
	}
	if ok && begins.FirstEventID <= event {
		return *high, nil
	}
	return c.bisect(ctx, r, event, *low, *high)
}

// bisect looks for the last row that begins at an event or before it. Every row before low qualifies; the one at high does not.
func (c *conn) bisect(ctx context.Context, r persistence.HistoryRange, event, low, high int64) (int64, error) {
	var found int64
	for low < high {
		middle := low + (high-low)/2
		row, ok, err := c.rowFrom(ctx, r, middle)
		if err != nil {
			return 0, err
		}
		if ok && row.FirstEventID <= event {
			found, low = row.Seq, row.Seq+1
		} else {
			high = middle
		}
	}
	return found, nil
}

// rowFrom returns the first row with a number of at least seq. Numbers have gaps where rows without events were trimmed.
func (c *conn) rowFrom(ctx context.Context, r persistence.HistoryRange, seq int64) (row persistence.Transition, ok bool, err error) {
	const text = `SELECT seq, first_event_id FROM transitions WHERE bucket = ? AND run_id = ? AND seq >= ? ORDER BY seq LIMIT 1`
	err = c.row(ctx, text, []any{r.Bucket, r.RunID, seq}, &row.Seq, &row.FirstEventID)
	if errors.Is(err, persistence.ErrNotFound) {
		return row, false, nil
	}
	return row, err == nil, err
}

// ReadTransitions implements [persistence.Executions].
func (s *Store) ReadTransitions(ctx context.Context, bucket int32, runID string, fromSeq int64, limit int) ([]persistence.Transition, error) {
	const text = `SELECT seq, first_event_id, events, parts FROM transitions WHERE bucket = ? AND run_id = ? AND seq >= ? ORDER BY seq LIMIT ?`
	var found []persistence.Transition
	err := s.read(ctx, "read transitions", func(ctx context.Context, c *conn) error {
		return c.rows(ctx, text, []any{bucket, runID, fromSeq, max(limit, 0)}, func(scan func(...any) error) (bool, error) {
			var t persistence.Transition
			err := scan(&t.Seq, &t.FirstEventID, &t.Events, &t.Parts)
			found = append(found, t)
			return true, err
		})
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}
