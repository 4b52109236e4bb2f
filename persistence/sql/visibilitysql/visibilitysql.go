// Package visibilitysql turns list and count requests into SQL for the visibility table of both databases. It owns the meaning of
// filters; the stores only run the statements.
//
// What it expects of the table "visibility" (the same names in both databases):
//
//   - namespace_id, run_id, workflow_id, workflow_type, task_queue, parent_workflow_id, parent_run_id, root_workflow_id,
//     root_run_id: text; namespace_id and the three run ids are uuid in PostgreSQL. A run without a parent has NULL there, or in
//     SQLite the empty text.
//   - start_time, execution_time, close_time: bigint, nanoseconds since 1970 (see [Nanos]); close_time is NULL while the run is open.
//   - status, history_length, history_size_bytes, state_transition_count: integers.
//   - search_attributes: jsonb in PostgreSQL, JSON text in SQLite; NULL or an object, never malformed. memo: bytes, may be NULL.
//
// Invariants:
//
//   - Nothing that a user wrote is part of a statement's text: values, names of attributes and JSON paths are arguments.
//   - A statement cannot fail because of what is stored: a value of another type than its field's is as good as missing.
//   - A missing value fulfils no condition but IsNull. Two exceptions follow the reference: the negations of conditions about
//     members of a set (KeywordList, words of a Text) hold where there is no set, and an open run's CloseTime counts as later than
//     any time.
package visibilitysql

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/perdure/perdure/persistence"
)

// Dialect is a database's SQL.
type Dialect int

// The dialects.
const (
	SQLite Dialect = iota + 1
	Postgres
)

// Query is a statement and its positional arguments.
type Query struct {
	SQL  string
	Args []any
}

// Limits of one filter. SQLite takes expressions 1000 levels deep and 32766 arguments, PostgreSQL 65535 arguments; the parser's own
// limits are lower.
const (
	conditionsMax = 500
	valuesMax     = 10_000
)

// ErrFilter says that a filter is not well formed: an unknown system field, a value or operator that its field's type does not take,
// or too many conditions. Parsers check all of that before, so it is the caller's bug.
var ErrFilter = errors.New("visibilitysql: bad filter")

func badFilter(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFilter, fmt.Sprintf(format, args...))
}

// rowColumns is what a list reads, in the order of [ScanRow].
var rowColumns = map[Dialect]string{
	SQLite: "namespace_id, run_id, workflow_id, workflow_type, task_queue, status, start_time, execution_time, close_time, " +
		"history_length, history_size_bytes, state_transition_count, COALESCE(parent_workflow_id, ''), COALESCE(parent_run_id, ''), " +
		"COALESCE(root_workflow_id, ''), COALESCE(root_run_id, ''), search_attributes, memo",
	Postgres: "namespace_id::text, run_id::text, workflow_id, workflow_type, task_queue, status, start_time, execution_time, close_time, " +
		"history_length, history_size_bytes, state_transition_count, COALESCE(parent_workflow_id, ''), COALESCE(parent_run_id::text, ''), " +
		"COALESCE(root_workflow_id, ''), COALESCE(root_run_id::text, ''), search_attributes::text, memo",
}

// ScanRow reads one row of a [List] statement.
func ScanRow(row interface{ Scan(...any) error }) (*persistence.VisibilityRow, error) {
	var (
		r                persistence.VisibilityRow
		start, execution int64
		closed           *int64
		attributes       *string
	)
	err := row.Scan(&r.NamespaceID, &r.RunID, &r.WorkflowID, &r.WorkflowType, &r.TaskQueue, &r.Status, &start, &execution, &closed,
		&r.HistoryLength, &r.HistorySizeBytes, &r.StateTransitionCount, &r.ParentWorkflowID, &r.ParentRunID,
		&r.RootWorkflowID, &r.RootRunID, &attributes, &r.Memo)
	if err != nil {
		return nil, fmt.Errorf("scan a visibility row: %w", err)
	}
	r.StartTime, r.ExecutionTime = Time(start), Time(execution)
	if closed != nil {
		r.CloseTime = Time(*closed)
	}
	if attributes != nil {
		r.SearchAttributes = []byte(*attributes)
	}
	return &r, nil
}

// Get builds the statement that reads one run's row.
func Get(d Dialect, namespaceID, runID string) Query {
	b := &builder{dialect: d}
	run, namespace := b.arg(runID), b.arg(namespaceID)
	return Query{SQL: "SELECT " + rowColumns[d] + " FROM visibility WHERE run_id = " + run + " AND namespace_id = " + namespace, Args: b.args}
}

// List builds the statement of [persistence.Visibility.ListVisibility]: open runs by start time, then closed runs by close time and
// start time, newest first, then run id. It is the union of the two halves, each in the order of an index of its own, so that a page
// costs a page; one statement sees a run that is just closing in exactly one of them.
func List(d Dialect, namespaceID string, filter persistence.Filter, after *persistence.VisibilityCursor, limit int) (Query, error) {
	b := &builder{dialect: d}
	namespace, condition, err := b.where(namespaceID, filter)
	if err != nil {
		return Query{}, err
	}
	limitArg := b.arg(limit)
	half := func(open, cursor, order string) string {
		return "SELECT * FROM (SELECT * FROM visibility WHERE namespace_id = " + namespace + " AND " + open + cursor + condition +
			" ORDER BY " + order + " LIMIT " + limitArg + ") AS half"
	}
	closedHalf := func() string {
		return half("close_time IS NOT NULL", b.afterClosed(after), "close_time DESC, start_time DESC, run_id")
	}
	var union string
	if after != nil && !after.CloseTime.IsZero() {
		union = closedHalf()
	} else {
		union = half("close_time IS NULL", b.afterOpen(after), "start_time DESC, run_id") + " UNION ALL " + closedHalf()
	}
	sql := "SELECT " + rowColumns[d] + " FROM (" + union + ") AS page ORDER BY page.close_time DESC NULLS FIRST, page.start_time DESC, page.run_id LIMIT " + limitArg
	return Query{SQL: sql, Args: b.args}, nil
}

// afterOpen continues among the open runs.
func (b *builder) afterOpen(after *persistence.VisibilityCursor) string {
	if after == nil {
		return ""
	}
	start, run := b.arg(Nanos(after.StartTime)), b.arg(after.RunID)
	return fmt.Sprintf(" AND start_time <= %[1]s AND (start_time < %[1]s OR run_id > %[2]s)", start, run)
}

// afterClosed continues among the closed runs; after an open run, all of them follow.
func (b *builder) afterClosed(after *persistence.VisibilityCursor) string {
	if after == nil || after.CloseTime.IsZero() {
		return ""
	}
	closed, start, run := b.arg(Nanos(after.CloseTime)), b.arg(Nanos(after.StartTime)), b.arg(after.RunID)
	return fmt.Sprintf(" AND close_time <= %[1]s AND (close_time < %[1]s OR start_time < %[2]s OR (start_time = %[2]s AND run_id > %[3]s))",
		closed, start, run)
}

// Count builds the statement of [persistence.Visibility.CountVisibility]: one row with the count or, with groupBy, rows of a value
// (an integer or text, NULL for missing ones, see [GroupValue]) and its count in the order of the value.
func Count(d Dialect, namespaceID string, filter persistence.Filter, groupBy *persistence.Field) (Query, error) {
	b := &builder{dialect: d}
	namespace, condition, err := b.where(namespaceID, filter)
	if err != nil {
		return Query{}, err
	}
	from := " FROM visibility WHERE namespace_id = " + namespace + condition
	if groupBy == nil {
		return Query{SQL: "SELECT COUNT(*)" + from, Args: b.args}, nil
	}
	operand, err := b.operand(*groupBy)
	if err != nil {
		return Query{}, err
	}
	if operand.class != classText && operand.class != classInt {
		return Query{}, badFilter("cannot group by %s", groupBy.Name)
	}
	sql := "SELECT value, COUNT(*) FROM (SELECT " + operand.sql + " AS value" + from + ") AS grouped GROUP BY value ORDER BY value"
	return Query{SQL: sql, Args: b.args}, nil
}

// GroupValue converts what a driver scanned into an any from a count by groups: int64, string or nil.
func GroupValue(scanned any) any {
	switch v := scanned.(type) {
	case int16:
		return int64(v)
	case int32:
		return int64(v)
	case []byte:
		return string(v)
	default:
		return v
	}
}

// where returns the argument of the namespace and the condition with a leading AND.
func (b *builder) where(namespaceID string, filter persistence.Filter) (namespace, condition string, err error) {
	namespace = b.arg(namespaceID)
	if filter == nil {
		return namespace, "", nil
	}
	sql, err := b.condition(filter, false)
	if err != nil {
		return "", "", err
	}
	return namespace, " AND " + sql, nil
}

// builder collects the arguments of one statement.
type builder struct {
	dialect    Dialect
	args       []any
	conditions int
}

// arg adds an argument and returns its placeholder.
func (b *builder) arg(v any) string {
	b.args = append(b.args, v)
	if b.dialect == Postgres {
		return "$" + strconv.Itoa(len(b.args))
	}
	return "?" + strconv.Itoa(len(b.args))
}

// textArg adds a text. PostgreSQL stores neither zero bytes nor broken UTF-8 and refuses them as arguments, so no stored text equals
// such a value; what replaces them only has to be valid.
func (b *builder) textArg(v string) string {
	if b.dialect == Postgres {
		return b.arg(storable(v)) + "::text"
	}
	return b.arg(v)
}

func storable(v string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(v, "\uFFFD"), "\x00", "\uFFFD")
}

// Nanos is the stored form of a time: nanoseconds since 1970. Times before 1678 and after 2262 become the first or last one that an
// int64 can hold.
func Nanos(t time.Time) int64 {
	const secondsMax = math.MaxInt64 / int64(time.Second)
	switch s := t.Unix(); {
	case s >= secondsMax:
		return math.MaxInt64
	case s <= -secondsMax:
		return math.MinInt64
	default:
		return t.UnixNano()
	}
}

// Time is the inverse of [Nanos], in UTC.
func Time(nanos int64) time.Time { return time.Unix(0, nanos).UTC() }

// Datetime is the stored form of a Datetime attribute: UTC, of fixed width, so that text order is time order.
func Datetime(t time.Time) string {
	const layout = "2006-01-02T15:04:05.000000000Z"
	t = t.UTC()
	if t.Year() > 9999 {
		t = time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC)
	} else if t.Year() < 0 {
		t = time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	return t.Format(layout)
}
