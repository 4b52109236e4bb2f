package persistencetest

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/perdure/perdure/persistence"
)

var visibilityTests = []namedTest{
	{"a row comes back as it was written", testVisibilityRow},
	{"a row is replaced", testVisibilityReplaced},
	{"order and pages", testVisibilityPages},
	{"pages with a filter", testVisibilityFilteredPages},
	{"namespaces are apart", testVisibilityNamespaces},
	{"count by status", testVisibilityGroups},
	{"attributes that are no JSON object do not stop a transition", testVisibilityBadAttributes},
	{"equal times", testVisibilityEqualTimes},
}

// visibilityStart is when the runs of visibility tests start, each later than the other.
var visibilityStart = time.Date(2026, 1, 2, 3, 4, 5, 123456789, time.UTC)

// visibilityRow is an open run's row with only what every row has.
func visibilityRow(key persistence.ExecutionKey, runID string) *persistence.VisibilityRow {
	return &persistence.VisibilityRow{NamespaceID: key.NamespaceID, RunID: runID, WorkflowID: key.BusinessID, WorkflowType: "type",
		TaskQueue: "queue", Status: 1, StartTime: visibilityStart, ExecutionTime: visibilityStart, RootWorkflowID: key.BusinessID, RootRunID: runID}
}

// list starts a run that is listed, after change.
func (e *env) list(businessID string, change func(*persistence.VisibilityRow)) *persistence.VisibilityRow {
	e.Helper()
	x := &execution{e: e, store: e.store, key: e.key(businessID), run: newRunID()}
	x.epoch = e.own(e.store, x.key)
	w := x.first()
	w.Visibility = visibilityRow(x.key, x.run)
	change(w.Visibility)
	x.must(w)
	return w.Visibility
}

func (e *env) listed(filter persistence.Filter, after *persistence.VisibilityCursor, limit int) []*persistence.VisibilityRow {
	e.Helper()
	rows, err := e.store.ListVisibility(e.ctx, e.namespace, filter, after, limit)
	require.NoError(e, err)
	return rows
}

func workflowIDs(rows []*persistence.VisibilityRow) []string {
	ids := make([]string, len(rows))
	for i, row := range rows {
		ids[i] = row.WorkflowID
	}
	return ids
}

// sameRow compares rows; JSON by its meaning.
func sameRow(t testing.TB, want, got *persistence.VisibilityRow) {
	t.Helper()
	a, b := *want, *got
	if len(a.SearchAttributes) == 0 {
		require.Empty(t, b.SearchAttributes)
	} else {
		require.JSONEq(t, string(a.SearchAttributes), string(b.SearchAttributes))
	}
	if len(a.Memo) == 0 {
		require.Empty(t, b.Memo)
		a.Memo, b.Memo = nil, nil
	}
	a.SearchAttributes, b.SearchAttributes = nil, nil
	for _, at := range []struct{ want, got *time.Time }{{&a.StartTime, &b.StartTime}, {&a.ExecutionTime, &b.ExecutionTime}, {&a.CloseTime, &b.CloseTime}} {
		require.True(t, at.want.Equal(*at.got), "%s, not %s", at.got, at.want)
		*at.got = *at.want
	}
	require.Equal(t, a, b)
}

func testVisibilityRow(e *env) {
	full := e.list("a", func(r *persistence.VisibilityRow) {
		r.Status, r.CloseTime, r.ExecutionTime = 2, visibilityStart.Add(time.Hour+1), visibilityStart.Add(time.Minute)
		r.HistoryLength, r.HistorySizeBytes, r.StateTransitionCount = 11, 1<<40, 7
		r.ParentWorkflowID, r.ParentRunID, r.RootWorkflowID, r.RootRunID = "parent", newRunID(), "root", newRunID()
		r.SearchAttributes = []byte(`{"A":"a","B":[1.5,true,null],"ü\"<":{"x":"\u00e9"}}`)
		r.Memo = []byte{0, 1, 255}
	})
	plain := e.list("b", func(*persistence.VisibilityRow) {})
	rows := e.listed(nil, nil, 10)
	require.Len(e, rows, 2)
	sameRow(e, plain, rows[0])
	sameRow(e, full, rows[1])
}

func testVisibilityReplaced(e *env) {
	x := e.start("a")
	row := visibilityRow(x.key, x.run)
	row.SearchAttributes, row.Memo = []byte(`{"A":1}`), []byte("memo")
	x.must(persistence.RunWrite{RunID: x.run, Visibility: row})
	after := *row
	after.Status, after.CloseTime, after.SearchAttributes, after.Memo = 3, visibilityStart.Add(time.Hour), nil, nil
	after.HistoryLength, after.WorkflowType = 99, "other"
	x.must(persistence.RunWrite{RunID: x.run, SetStatus: true, Status: 3, Visibility: &after})
	x.must(persistence.RunWrite{RunID: x.run, SetHasEffects: true})
	rows := e.listed(nil, nil, 10)
	require.Len(e, rows, 1)
	sameRow(e, &after, rows[0])
}

// seven has three open runs and four closed ones, and returns their ids in the order of a list.
func (e *env) seven() []string {
	for i, closed := range []int{0, 4, 0, 3, 1, 0, 2} {
		e.list(fmt.Sprint(i), func(r *persistence.VisibilityRow) {
			r.StartTime = visibilityStart.Add(time.Duration(i) * time.Nanosecond)
			r.WorkflowType = []string{"even", "odd"}[i%2]
			if closed > 0 {
				r.Status, r.CloseTime = 2, visibilityStart.Add(time.Duration(closed)*time.Microsecond)
			}
		})
	}
	return []string{"5", "2", "0", "1", "3", "6", "4"}
}

// pages lists all in pages of a size, each after the last row of the one before.
func (e *env) pages(filter persistence.Filter, size int) []string {
	e.Helper()
	var (
		all    []string
		cursor *persistence.VisibilityCursor
	)
	for {
		rows := e.listed(filter, cursor, size)
		require.LessOrEqual(e, len(rows), size)
		if len(rows) == 0 {
			return all
		}
		all = append(all, workflowIDs(rows)...)
		last := rows[len(rows)-1]
		cursor = &persistence.VisibilityCursor{CloseTime: last.CloseTime, StartTime: last.StartTime, RunID: last.RunID}
	}
}

func testVisibilityPages(e *env) {
	want := e.seven()
	for size := 1; size <= 8; size++ {
		require.Equal(e, want, e.pages(nil, size), "pages of %d", size)
	}
}

func testVisibilityFilteredPages(e *env) {
	e.seven()
	odd := persistence.Compare{Field: persistence.Field{Name: "WorkflowType", Type: persistence.FieldKeyword}, Op: persistence.Equal, Value: "odd"}
	for size := 1; size <= 3; size++ {
		require.Equal(e, []string{"5", "1", "3"}, e.pages(odd, size))
	}
}

func testVisibilityEqualTimes(e *env) {
	var ids []string
	for i := range 6 {
		row := e.list(fmt.Sprint(i), func(r *persistence.VisibilityRow) {
			if i >= 3 {
				r.Status, r.CloseTime = 2, visibilityStart.Add(time.Hour)
			}
		})
		ids = append(ids, row.WorkflowID) // run ids ascend
	}
	for size := 1; size <= 6; size++ {
		require.Equal(e, ids, e.pages(nil, size))
	}
}

func testVisibilityNamespaces(e *env) {
	e.list("a", func(*persistence.VisibilityRow) {})
	rows, err := e.store.ListVisibility(e.ctx, newRunID(), nil, nil, 10)
	require.NoError(e, err)
	require.Empty(e, rows)
	count, _, err := e.store.CountVisibility(e.ctx, newRunID(), nil, nil)
	require.NoError(e, err)
	require.Zero(e, count)
}

func testVisibilityGroups(e *env) {
	e.seven()
	e.list("failed", func(r *persistence.VisibilityRow) { r.Status, r.CloseTime = 3, visibilityStart.Add(time.Hour) })
	status := persistence.Field{Name: "ExecutionStatus", Type: persistence.FieldKeyword}
	count, groups, err := e.store.CountVisibility(e.ctx, e.namespace, nil, &status)
	require.NoError(e, err)
	require.EqualValues(e, 8, count)
	require.Equal(e, []persistence.GroupCount{{Value: int64(1), Count: 3}, {Value: int64(2), Count: 4}, {Value: int64(3), Count: 1}}, groups)
	filter := persistence.Compare{Field: status, Op: persistence.Less, Value: int64(2)}
	count, groups, err = e.store.CountVisibility(e.ctx, e.namespace, filter, &status)
	require.NoError(e, err)
	require.EqualValues(e, 3, count)
	require.Equal(e, []persistence.GroupCount{{Value: int64(1), Count: 3}}, groups)
	count, groups, err = e.store.CountVisibility(e.ctx, e.namespace, filter, nil)
	require.NoError(e, err)
	require.EqualValues(e, 3, count)
	require.Empty(e, groups)
}

func testVisibilityBadAttributes(e *env) {
	for i, attributes := range []string{`{"A":`, `[1]`, `"text"`, `null`, "\x00", `{"A":"` + string([]byte{0xff}) + `"`} {
		row := e.list(fmt.Sprint(i), func(r *persistence.VisibilityRow) { r.SearchAttributes = []byte(attributes) })
		require.False(e, json.Valid(row.SearchAttributes) && row.SearchAttributes[0] == '{', "the test needs bad attributes")
	}
	field := persistence.Field{Name: "A", Type: persistence.FieldKeyword, Custom: true}
	rows := e.listed(persistence.IsNull{Field: field}, nil, 10)
	require.Len(e, rows, 6)
	require.False(e, slices.ContainsFunc(rows, func(r *persistence.VisibilityRow) bool { return len(r.SearchAttributes) > 0 }))
}
