package visibilitysql

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	p "github.com/perdure/perdure/persistence"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var (
	keyword  = p.Field{Name: `Order"Color`, Type: p.FieldKeyword, Custom: true}
	text     = p.Field{Name: "Note", Type: p.FieldText, Custom: true}
	integer  = p.Field{Name: "Count", Type: p.FieldInt, Custom: true}
	double   = p.Field{Name: "Price", Type: p.FieldDouble, Custom: true}
	flagged  = p.Field{Name: "Paid", Type: p.FieldBool, Custom: true}
	datetime = p.Field{Name: "Due", Type: p.FieldDatetime, Custom: true}
	list     = p.Field{Name: "Tags", Type: p.FieldKeywordList, Custom: true}

	workflowID = p.Field{Name: "WorkflowId", Type: p.FieldKeyword}
	runID      = p.Field{Name: "RunId", Type: p.FieldKeyword}
	parent     = p.Field{Name: "ParentRunId", Type: p.FieldKeyword}
	status     = p.Field{Name: "ExecutionStatus", Type: p.FieldKeyword}
	startTime  = p.Field{Name: "StartTime", Type: p.FieldDatetime}
	closed     = p.Field{Name: "CloseTime", Type: p.FieldDatetime}
	duration   = p.Field{Name: "ExecutionDuration", Type: p.FieldInt}

	instant = time.Date(2001, 2, 3, 4, 5, 6, 7, time.UTC)
)

func eq(f p.Field, v any) p.Filter                      { return p.Compare{Field: f, Op: p.Equal, Value: v} }
func compare(f p.Field, op p.CompareOp, v any) p.Filter { return p.Compare{Field: f, Op: op, Value: v} }

var goldenFilters = []struct {
	name   string
	filter p.Filter
}{
	{"keyword equal", eq(keyword, `it's "red"`)},
	{"keyword not equal", compare(keyword, p.NotEqual, "red")},
	{"keyword less", compare(keyword, p.Less, "red")},
	{"keyword in", p.In{Field: keyword, Values: []any{"red", "blue"}}},
	{"keyword not in", p.In{Field: keyword, Values: []any{"red"}, Negate: true}},
	{"keyword in nothing", p.In{Field: keyword}},
	{"keyword between", p.Between{Field: keyword, Low: "a", High: "b"}},
	{"keyword is null", p.IsNull{Field: keyword}},
	{"keyword is not null", p.IsNull{Field: keyword, Negate: true}},
	{"keyword starts with", p.StartsWith{Field: keyword, Prefix: "re%"}},
	{"keyword not starts with", p.StartsWith{Field: keyword, Prefix: "re", Negate: true}},
	{"keyword starts with the empty text", p.StartsWith{Field: keyword}},
	{"text equal", eq(text, "Quick, dog")},
	{"text not equal", compare(text, p.NotEqual, "quick")},
	{"text equal without words", eq(text, "---")},
	{"int greater", compare(integer, p.Greater, int64(-1))},
	{"int with a fraction", compare(integer, p.GreaterOrEqual, 1.5)},
	{"double in", p.In{Field: double, Values: []any{0.5, int64(2)}}},
	{"double infinite", compare(double, p.Less, math.Inf(-1))},
	{"bool equal", eq(flagged, true)},
	{"bool not equal", compare(flagged, p.NotEqual, true)},
	{"datetime not between", p.Between{Field: datetime, Low: instant, High: instant, Negate: true}},
	{"list contains", eq(list, "red")},
	{"list not in", p.In{Field: list, Values: []any{"red", "blue"}, Negate: true}},
	{"list is null", p.IsNull{Field: list}},
	{"workflow id starts with", p.StartsWith{Field: workflowID, Prefix: "order-"}},
	{"run id equal", eq(runID, "not a uuid")},
	{"run id equal to a uuid", eq(runID, "0190163d-8694-739b-aea5-966c26f8ad91")},
	{"parent is null", p.IsNull{Field: parent}},
	{"status in", p.In{Field: status, Values: []any{int64(1), int64(3)}}},
	{"start time less or equal", compare(startTime, p.LessOrEqual, instant)},
	{"close time greater", compare(closed, p.Greater, instant)},
	{"close time less", compare(closed, p.Less, instant)},
	{"duration", compare(duration, p.Less, int64(time.Hour))},
	{"and, or", p.And{Filters: []p.Filter{eq(status, int64(1)), p.Or{Filters: []p.Filter{eq(workflowID, "a"), eq(workflowID, "b")}}}}},
	{"empty and, or", p.And{Filters: []p.Filter{p.And{}, p.Or{}}}},
	{"not", p.Not{Filter: p.Or{Filters: []p.Filter{
		eq(keyword, "a"), compare(integer, p.Less, int64(1)), p.Not{Filter: eq(list, "x")}, p.IsNull{Field: keyword},
		p.StartsWith{Field: workflowID, Prefix: "a", Negate: true}, compare(closed, p.LessOrEqual, instant)}}}},
}

func TestGoldenFilters(t *testing.T) {
	var out strings.Builder
	for _, c := range goldenFilters {
		fmt.Fprintf(&out, "# %s\n", c.name)
		for _, d := range []Dialect{SQLite, Postgres} {
			b := &builder{dialect: d}
			sql, err := b.condition(c.filter, false)
			require.NoError(t, err, c.name)
			fmt.Fprintf(&out, "%s: %s\n\t%s\n", dialectName(d), sql, show(b.args))
		}
		out.WriteString("\n")
	}
	golden(t, "filters.golden", out.String())
}

func TestGoldenStatements(t *testing.T) {
	filter := eq(workflowID, "a")
	cases := []struct {
		name  string
		build func(Dialect) (Query, error)
	}{
		{"first page", func(d Dialect) (Query, error) { return List(d, "ns", nil, nil, 10) }},
		{"after an open run", func(d Dialect) (Query, error) {
			return List(d, "ns", filter, &p.VisibilityCursor{StartTime: instant, RunID: "r"}, 10)
		}},
		{"after a closed run", func(d Dialect) (Query, error) {
			return List(d, "ns", filter, &p.VisibilityCursor{StartTime: instant, CloseTime: instant, RunID: "r"}, 10)
		}},
		{"count", func(d Dialect) (Query, error) { return Count(d, "ns", filter, nil) }},
		{"count by status", func(d Dialect) (Query, error) { return Count(d, "ns", nil, &status) }},
		{"count by keyword", func(d Dialect) (Query, error) { return Count(d, "ns", nil, &keyword) }},
	}
	var out strings.Builder
	for _, c := range cases {
		fmt.Fprintf(&out, "# %s\n", c.name)
		for _, d := range []Dialect{SQLite, Postgres} {
			q, err := c.build(d)
			require.NoError(t, err)
			fmt.Fprintf(&out, "%s: %s\n\t%s\n", dialectName(d), q.SQL, show(q.Args))
		}
		out.WriteString("\n")
	}
	golden(t, "statements.golden", out.String())
}

func TestBadFiltersAreRefused(t *testing.T) {
	many := make([]p.Filter, conditionsMax+1)
	for i := range many {
		many[i] = eq(workflowID, "a")
	}
	cases := map[string]p.Filter{
		"nil":                  p.Not{},
		"unknown system field": eq(p.Field{Name: "run_id; DROP TABLE visibility", Type: p.FieldKeyword}, "x"),
		"unknown type":         eq(p.Field{Name: "x", Custom: true}, "x"),
		"unknown operator":     compare(workflowID, 99, "x"),
		"keyword with int":     eq(keyword, int64(1)),
		"bool with string":     eq(flagged, "true"),
		"int with string":      eq(integer, "1"),
		"datetime with string": eq(datetime, "2001"),
		"start time with int":  eq(startTime, int64(1)),
		"status with string":   eq(status, "Running"),
		"range on list":        compare(list, p.Less, "x"),
		"range on text":        compare(text, p.Greater, "x"),
		"between on list":      p.Between{Field: list, Low: "a", High: "b"},
		"in on text":           p.In{Field: text, Values: []any{"a"}},
		"list with int":        eq(list, int64(1)),
		"prefix of int":        p.StartsWith{Field: integer, Prefix: "1"},
		"prefix of status":     p.StartsWith{Field: status, Prefix: "1"},
		"too many conditions":  p.Or{Filters: many},
		"too many values":      p.In{Field: workflowID, Values: make([]any, valuesMax+1)},
	}
	for name, filter := range cases {
		for _, d := range []Dialect{SQLite, Postgres} {
			_, err := List(d, "ns", filter, nil, 10)
			require.True(t, errors.Is(err, ErrFilter), "%s: %v", name, err)
			_, err = Count(d, "ns", filter, nil)
			require.ErrorIs(t, err, ErrFilter, name)
		}
	}
	_, err := Count(SQLite, "ns", nil, &list)
	require.ErrorIs(t, err, ErrFilter)
}

func TestUserTextIsNeverInTheStatement(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nasty := "\x01" + rapid.String().Draw(t, "text") + "'\""
		for _, typ := range []p.FieldType{p.FieldKeyword, p.FieldText, p.FieldKeywordList} {
			for _, d := range []Dialect{SQLite, Postgres} {
				q, err := List(d, nasty, eq(p.Field{Name: nasty, Type: typ, Custom: true}, nasty), nil, 1)
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(q.SQL, "\x01") {
					t.Fatalf("user text in %s", q.SQL)
				}
			}
		}
	})
}

func TestPrefixEndBoundsExactlyThePrefix(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prefix := rapid.String().Draw(t, "prefix")
		other := rapid.OneOf(rapid.String(), rapid.Map(rapid.String(), func(s string) string { return prefix + s })).Draw(t, "other")
		end, bounded := prefixEnd(prefix)
		inRange := other >= prefix && (!bounded || other < end)
		if inRange != strings.HasPrefix(other, prefix) {
			t.Fatalf("prefix %q, end %q (%v), text %q", prefix, end, bounded, other)
		}
	})
}

func TestPrefixEndAtTheEdges(t *testing.T) {
	for prefix, want := range map[string]string{"a": "b", "a\U0010FFFF": "b", "\uD7FF": "\uE000", "é": "ê"} {
		end, bounded := prefixEnd(prefix)
		require.True(t, bounded)
		require.Equal(t, want, end)
	}
	for _, prefix := range []string{"", "\U0010FFFF"} {
		_, bounded := prefixEnd(prefix)
		require.False(t, bounded)
	}
}

func TestWords(t *testing.T) {
	require.Equal(t, []string{"the", "quick", "brown", "fox2", "ébène"}, Words("The quick-brown; FOX2 (quick)\x00Ébène…"))
	require.Empty(t, Words("--- ."))
	require.True(t, HasWord("the Quick dog", "cat dog"))
	require.False(t, HasWord("hotdog", "cat dog"))
}

func TestTimesBeyondTheRangeAreClamped(t *testing.T) {
	for text, want := range map[string]int64{
		"0001-01-01T00:00:00Z": math.MinInt64, "9999-12-31T23:59:59Z": math.MaxInt64, "1970-01-01T00:00:01Z": 1e9,
	} {
		at, err := time.Parse(time.RFC3339, text)
		require.NoError(t, err)
		require.Equal(t, want, Nanos(at))
	}
	require.Equal(t, instant, Time(Nanos(instant)))
	require.Equal(t, "2001-02-03T04:05:06.000000007Z", Datetime(instant.In(time.FixedZone("", 3600))))
	require.Equal(t, "9999-12-31T23:59:59.999999999Z", Datetime(time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC)))
	require.Equal(t, "0000-01-01T00:00:00.000000000Z", Datetime(time.Date(-5, 1, 1, 0, 0, 0, 0, time.UTC)))
}

func dialectName(d Dialect) string {
	return map[Dialect]string{SQLite: "sqlite", Postgres: "postgres"}[d]
}

func show(args []any) string {
	parts := make([]string, len(args))
	for i, arg := range args {
		parts[i] = fmt.Sprintf("%T(%v)", arg, arg)
	}
	return strings.Join(parts, ", ")
}

// golden compares with a file of testdata; -update rewrites it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := "testdata/" + name
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "run with -update")
	require.Equal(t, string(want), got)
}
