package persistencetest

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	p "github.com/perdure/perdure/persistence"
)

var filterTests = []namedTest{
	{"every operator on every type", testFilters},
	{"nasty names and values", testNastyFilters},
	{"nasty prefixes", testNastyPrefixes},
	{"large filters", testLargeFilters},
}

func custom(name string, typ p.FieldType) p.Field {
	return p.Field{Name: name, Type: typ, Custom: true}
}
func system(name string, typ p.FieldType) p.Field { return p.Field{Name: name, Type: typ} }

var (
	color  = custom("Color", p.FieldKeyword)
	note   = custom("Note", p.FieldText)
	number = custom("Number", p.FieldInt)
	price  = custom("Price", p.FieldDouble)
	paid   = custom("Paid", p.FieldBool)
	due    = custom("Due", p.FieldDatetime)
	tags   = custom("Tags", p.FieldKeywordList)

	workflowID = system("WorkflowId", p.FieldKeyword)
	status     = system("ExecutionStatus", p.FieldKeyword)
	closeTime  = system("CloseTime", p.FieldDatetime)
	startTime  = system("StartTime", p.FieldDatetime)
	duration   = system("ExecutionDuration", p.FieldInt)
)

// runs of the filter tests by workflow id. "none" has no attributes, and "odd" has them all with other types.
var filterRuns = []struct{ id, attributes string }{
	{"a", `{"Color":"alpha","Note":"The quick-brown Fox, ÉTÉ","Number":1,"Price":0.5,"Paid":true,"Due":"2001-01-01T00:00:00.000000000Z","Tags":["red","green"]}`},
	{"b", `{"Color":"beta","Note":"the lazy dog","Number":2,"Price":1.5,"Paid":false,"Due":"2001-02-01T00:00:00.000000000Z","Tags":["green"]}`},
	{"c", `{"Color":"gamma ray","Note":"quick silver","Number":10,"Price":2,"Paid":true,"Due":"2001-03-01T00:00:00.000000001Z","Tags":["blue",1]}`},
	{"e", `{"Color":"it's","Number":9007199254740993,"Price":1e300,"Tags":[]}`},
	{"none", ``},
	{"odd", `{"Color":1,"Note":["quick"],"Number":"2","Price":"0.5","Paid":"true","Due":20010101,"Tags":"red"}`},
}

// setUpFilters lists the runs; every second one is closed.
func setUpFilters(e *env) map[string]*p.VisibilityRow {
	rows := map[string]*p.VisibilityRow{}
	for i, run := range filterRuns {
		rows[run.id] = e.list(run.id, func(r *p.VisibilityRow) {
			r.SearchAttributes = []byte(run.attributes)
			r.WorkflowType, r.TaskQueue = "type-"+run.id, "queue-"+run.id
			r.StartTime = visibilityStart.Add(time.Duration(i) * time.Second)
			r.ExecutionTime = r.StartTime.Add(time.Millisecond)
			r.HistoryLength, r.HistorySizeBytes, r.StateTransitionCount = int64(10+i), int64(100+i), int64(1000+i)
			if i%2 == 1 {
				r.Status, r.CloseTime = int32(i+1), r.ExecutionTime.Add(time.Duration(i)*time.Minute)
			}
			if run.id == "b" {
				r.ParentWorkflowID, r.ParentRunID, r.RootWorkflowID, r.RootRunID = "a", uuid.NewString(), "a", uuid.NewString()
			}
		})
	}
	return rows // a, c, none are open; b, e, odd closed after 1, 3 and 5 minutes
}

func is(f p.Field, op p.CompareOp, v any) p.Filter { return p.Compare{Field: f, Op: op, Value: v} }
func in(f p.Field, values ...any) p.Filter         { return p.In{Field: f, Values: values} }
func notIn(f p.Field, values ...any) p.Filter      { return p.In{Field: f, Values: values, Negate: true} }
func between(f p.Field, low, high any) p.Filter    { return p.Between{Field: f, Low: low, High: high} }
func notBetween(f p.Field, low, high any) p.Filter {
	return p.Between{Field: f, Low: low, High: high, Negate: true}
}
func null(f p.Field) p.Filter                 { return p.IsNull{Field: f} }
func notNull(f p.Field) p.Filter              { return p.IsNull{Field: f, Negate: true} }
func prefix(f p.Field, v string) p.Filter     { return p.StartsWith{Field: f, Prefix: v} }
func notPrefix(f p.Field, v string) p.Filter  { return p.StartsWith{Field: f, Prefix: v, Negate: true} }
func not(f p.Filter) p.Filter                 { return p.Not{Filter: f} }
func and(filters ...p.Filter) p.Filter        { return p.And{Filters: filters} }
func or(filters ...p.Filter) p.Filter         { return p.Or{Filters: filters} }
func month(m time.Month, nanos int) time.Time { return time.Date(2001, m, 1, 0, 0, 0, nanos, time.UTC) }

type filterCase struct {
	filter p.Filter
	want   string // the ids in order, separated by blanks
}

func testFilters(e *env) {
	rows := setUpFilters(e)
	for _, cases := range [][]filterCase{keywordCases, textCases, numberCases, boolCases, datetimeCases, listCases, systemCases(rows), logicCases} {
		for _, c := range cases {
			checkFilter(e, c)
		}
	}
}

func checkFilter(e *env, c filterCase) {
	e.Helper()
	got := workflowIDs(e.listed(c.filter, nil, 100))
	slices.Sort(got)
	require.Equal(e, c.want, strings.Join(got, " "), "%+v", c.filter)
	count, _, err := e.store.CountVisibility(e.ctx, e.namespace, c.filter, nil)
	require.NoError(e, err)
	require.EqualValues(e, len(got), count, "%+v", c.filter)
}

var keywordCases = []filterCase{
	{is(color, p.Equal, "alpha"), "a"},
	{is(color, p.Equal, "ALPHA"), ""},
	{is(color, p.Equal, "it's"), "e"},
	{is(color, p.Equal, "1"), ""},
	{is(color, p.NotEqual, "alpha"), "b c e"},
	{is(color, p.Less, "beta"), "a"},
	{is(color, p.LessOrEqual, "beta"), "a b"},
	{is(color, p.Greater, "beta"), "c e"},
	{is(color, p.GreaterOrEqual, "beta"), "b c e"},
	{is(color, p.Less, "Z"), ""},
	{in(color, "alpha", "beta", "x"), "a b"},
	{in(color), ""},
	{notIn(color, "alpha", "beta"), "c e"},
	{notIn(color), "a b c e"},
	{between(color, "b", "h"), "b c"},
	{notBetween(color, "a", "b"), "b c e"},
	{null(color), "none odd"},
	{notNull(color), "a b c e"},
	{prefix(color, "al"), "a"},
	{prefix(color, "%a"), ""},
	{prefix(color, "_"), ""},
	{prefix(color, ""), "a b c e"},
	{notPrefix(color, "al"), "b c e"},
}

var textCases = []filterCase{
	{is(note, p.Equal, "quick"), "a c"},
	{is(note, p.Equal, "QUICK!"), "a c"},
	{is(note, p.Equal, "quick dog"), "a b c"},
	{is(note, p.Equal, "qui"), ""},
	{is(note, p.Equal, "brown"), "a"},
	{is(note, p.Equal, "été"), "a"},
	{is(note, p.Equal, "---"), ""},
	{is(note, p.Equal, ""), ""},
	{is(note, p.NotEqual, "quick"), "b e none odd"},
	{is(note, p.NotEqual, "---"), "a b c e none odd"},
	{null(note), "e none odd"},
	{notNull(note), "a b c"},
}

var numberCases = []filterCase{
	{is(number, p.Equal, int64(2)), "b"},
	{is(number, p.Equal, 2.0), "b"},
	{is(number, p.Equal, int64(9007199254740993)), "e"},
	{is(number, p.Equal, int64(9007199254740992)), ""},
	{is(number, p.NotEqual, int64(2)), "a c e"},
	{is(number, p.Less, int64(10)), "a b"},
	{is(number, p.LessOrEqual, int64(10)), "a b c"},
	{is(number, p.Greater, int64(2)), "c e"},
	{is(number, p.GreaterOrEqual, int64(2)), "b c e"},
	{is(number, p.Greater, int64(-1)), "a b c e"},
	{is(number, p.Less, 1e30), "a b c e"},
	{is(number, p.Equal, 1e30), ""},
	{is(number, p.Greater, int64(math.MaxInt64)), ""},
	{in(number, int64(1), int64(10)), "a c"},
	{notIn(number, int64(1), int64(10)), "b e"},
	{between(number, int64(2), int64(10)), "b c"},
	{notBetween(number, int64(2), int64(10)), "a e"},
	{null(number), "none odd"},
	{notNull(number), "a b c e"},
	{is(price, p.Equal, 0.5), "a"},
	{is(price, p.Equal, int64(2)), "c"},
	{is(price, p.NotEqual, 0.5), "b c e"},
	{is(price, p.Less, 2.0), "a b"},
	{is(price, p.LessOrEqual, int64(2)), "a b c"},
	{is(price, p.Greater, 1.5), "c e"},
	{is(price, p.GreaterOrEqual, 1e300), "e"},
	{is(price, p.Less, math.Inf(1)), "a b c e"},
	{is(price, p.Less, math.Inf(-1)), ""},
	{in(price, 0.5, 2.0), "a c"},
	{notIn(price, 0.5), "b c e"},
	{between(price, 1.0, 2.0), "b c"},
	{notBetween(price, 1.0, 2.0), "a e"},
	{null(price), "none odd"},
	{notNull(price), "a b c e"},
}

var boolCases = []filterCase{
	{is(paid, p.Equal, true), "a c"},
	{is(paid, p.Equal, false), "b"},
	{is(paid, p.NotEqual, true), "b"},
	{is(paid, p.Greater, false), "a c"},
	{is(paid, p.LessOrEqual, false), "b"},
	{in(paid, true), "a c"},
	{notIn(paid, true), "b"},
	{null(paid), "e none odd"},
	{notNull(paid), "a b c"},
}

var datetimeCases = []filterCase{
	{is(due, p.Equal, month(time.January, 0)), "a"},
	{is(due, p.Equal, month(time.January, 0).In(time.FixedZone("", 3600))), "a"},
	{is(due, p.Equal, month(time.March, 0)), ""},
	{is(due, p.NotEqual, month(time.January, 0)), "b c"},
	{is(due, p.Less, month(time.February, 0)), "a"},
	{is(due, p.LessOrEqual, month(time.February, 0)), "a b"},
	{is(due, p.Greater, month(time.March, 0)), "c"},
	{is(due, p.GreaterOrEqual, month(time.March, 1)), "c"},
	{is(due, p.Less, time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)), "a b c"},
	{is(due, p.Greater, time.Time{}), "a b c"},
	{in(due, month(time.January, 0), month(time.March, 1)), "a c"},
	{notIn(due, month(time.January, 0)), "b c"},
	{between(due, month(time.January, 0), month(time.February, 0)), "a b"},
	{notBetween(due, month(time.January, 0), month(time.February, 0)), "c"},
	{null(due), "e none odd"},
	{notNull(due), "a b c"},
}

var listCases = []filterCase{
	{is(tags, p.Equal, "red"), "a"},
	{is(tags, p.Equal, "green"), "a b"},
	{is(tags, p.Equal, "re"), ""},
	{is(tags, p.Equal, "1"), ""},
	{is(tags, p.NotEqual, "red"), "b c e none odd"},
	{in(tags, "red", "blue"), "a c"},
	{in(tags), ""},
	{notIn(tags, "red", "blue"), "b e none odd"},
	{null(tags), "none odd"},
	{notNull(tags), "a b c e"},
}

// systemCases are about the columns.
func systemCases(rows map[string]*p.VisibilityRow) []filterCase {
	keyword := func(name string) p.Field { return system(name, p.FieldKeyword) }
	integer := func(name string) p.Field { return system(name, p.FieldInt) }
	execution := system("ExecutionTime", p.FieldDatetime)
	return []filterCase{
		{is(workflowID, p.Equal, "a"), "a"},
		{is(workflowID, p.NotEqual, "a"), "b c e none odd"},
		{is(workflowID, p.Less, "c"), "a b"},
		{in(workflowID, "a", "odd"), "a odd"},
		{prefix(workflowID, "o"), "odd"},
		{notPrefix(workflowID, "o"), "a b c e none"},
		{is(keyword("RunId"), p.Equal, rows["c"].RunID), "c"},
		{is(keyword("RunId"), p.Equal, strings.ToUpper(rows["c"].RunID)), ""},
		{is(keyword("RunId"), p.NotEqual, rows["c"].RunID), "a b e none odd"},
		{is(keyword("RunId"), p.Equal, "not a run id"), ""},
		{is(keyword("RunId"), p.NotEqual, "not a run id"), "a b c e none odd"},
		{in(keyword("RunId"), rows["c"].RunID, "x"), "c"},
		{notIn(keyword("RunId"), rows["c"].RunID, "x"), "a b e none odd"},
		{is(keyword("RunId"), p.GreaterOrEqual, rows["none"].RunID), "none odd"},
		{prefix(keyword("RunId"), rows["b"].RunID), "b"},
		{is(keyword("WorkflowType"), p.Equal, "type-b"), "b"},
		{is(keyword("TaskQueue"), p.Equal, "queue-b"), "b"},
		{is(keyword("ParentWorkflowId"), p.Equal, "a"), "b"},
		{is(keyword("ParentWorkflowId"), p.NotEqual, "x"), "b"},
		{is(keyword("ParentWorkflowId"), p.Equal, ""), ""},
		{null(keyword("ParentWorkflowId")), "a c e none odd"},
		{is(keyword("ParentRunId"), p.Equal, rows["b"].ParentRunID), "b"},
		{is(keyword("ParentRunId"), p.NotEqual, rows["a"].RunID), "b"},
		{notNull(keyword("ParentRunId")), "b"},
		{is(keyword("RootWorkflowId"), p.Equal, "a"), "a b"},
		{is(keyword("RootRunId"), p.Equal, rows["b"].RootRunID), "b"},
		{is(status, p.Equal, int64(1)), "a c none"},
		{is(status, p.NotEqual, int64(1)), "b e odd"},
		{is(status, p.Greater, int64(2)), "e odd"},
		{in(status, int64(1), int64(2)), "a b c none"},
		{is(startTime, p.Equal, rows["b"].StartTime), "b"},
		{is(startTime, p.Less, rows["c"].StartTime), "a b"},
		{is(startTime, p.Greater, time.Time{}), "a b c e none odd"},
		{is(startTime, p.Less, time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)), "a b c e none odd"},
		{between(startTime, rows["b"].StartTime, rows["c"].StartTime), "b c"},
		{is(execution, p.Equal, rows["e"].ExecutionTime), "e"},
		{is(closeTime, p.LessOrEqual, rows["e"].CloseTime), "b e"},
		{is(closeTime, p.Equal, rows["e"].CloseTime), "e"},
		{is(closeTime, p.Greater, rows["e"].CloseTime), "a c none odd"},
		{is(closeTime, p.NotEqual, rows["e"].CloseTime), "a b c none odd"},
		{between(closeTime, rows["b"].CloseTime, rows["e"].CloseTime), "b e"},
		{null(closeTime), "a c none"},
		{notNull(closeTime), "b e odd"},
		{is(duration, p.Equal, int64(time.Minute)), "b"},
		{is(duration, p.Greater, int64(time.Minute)), "e odd"},
		{null(duration), "a c none"},
		{is(integer("HistoryLength"), p.Less, int64(12)), "a b"},
		{is(integer("HistoryLength"), p.Less, 11.5), "a b"},
		{is(integer("HistorySizeBytes"), p.Equal, int64(102)), "c"},
		{is(integer("StateTransitionCount"), p.GreaterOrEqual, int64(1004)), "none odd"},
	}
}

var logicCases = []filterCase{
	{nil, "a b c e none odd"},
	{and(), "a b c e none odd"},
	{or(), ""},
	{or(and(is(color, p.Equal, "alpha"), is(number, p.Equal, int64(1))), is(color, p.Equal, "beta")), "a b"},
	{and(is(color, p.Equal, "alpha"), or(is(number, p.Equal, int64(1)), is(number, p.Equal, int64(2)))), "a"},
	{not(or(is(color, p.Equal, "alpha"), is(color, p.Equal, "beta"))), "c e"},
	{not(and(is(color, p.Equal, "alpha"), is(number, p.Equal, int64(1)))), "b c e"},
	{not(not(is(color, p.Equal, "alpha"))), "a"},
	{not(null(color)), "a b c e"},
	{not(is(tags, p.Equal, "red")), "b c e none odd"},
	{not(is(tags, p.NotEqual, "red")), "a"},
	{not(is(note, p.Equal, "quick")), "b e none odd"},
	{not(in(number, int64(1))), "b c e"},
	{not(between(number, int64(1), int64(2))), "c e"},
	{not(notBetween(number, int64(1), int64(2))), "a b"},
	{not(prefix(color, "al")), "b c e"},
	{not(is(closeTime, p.Greater, time.Time{})), ""},
	{not(is(number, p.Less, int64(2))), "b c e"},
	{not(is(number, p.GreaterOrEqual, int64(2))), "a"},
}

// testNastyFilters looks for attributes whose names and values try to break out of a statement or a path.
func testNastyFilters(e *env) {
	nasty := []string{`it's`, `a"b`, `a\b`, `a.b`, `a[0]`, `$`, `$.a`, `"`, `\"`, `%s`, `?1`, `$1`, `<&>`, `äöü€😀`, ` `, `'; DROP TABLE visibility; --`, "tab\tnew\nline", `{"x":1}`, `*`, `#-1`, `..`, "\u2028"}
	for i, name := range nasty {
		document := mustJSON(map[string]any{name: name, "List": []string{name}, "Words": "first " + name + " last"})
		e.list(fmt.Sprint(i), func(r *p.VisibilityRow) { r.SearchAttributes = document })
	}
	for i, name := range nasty {
		want := fmt.Sprint(i)
		checkFilter(e, filterCase{is(custom(name, p.FieldKeyword), p.Equal, name), want})
		checkFilter(e, filterCase{between(custom(name, p.FieldKeyword), name, name), want})
		checkFilter(e, filterCase{in(custom("List", p.FieldKeywordList), name), want})
		checkFilter(e, filterCase{notNull(custom(name, p.FieldKeyword)), want})
		checkFilter(e, filterCase{is(custom(name, p.FieldText), p.Equal, "nothing"), ""})
	}
	for _, value := range []string{"\x00", "a\x00b", "\xff\xfe"} {
		checkFilter(e, filterCase{is(custom(value, p.FieldKeyword), p.Equal, value), ""})
		checkFilter(e, filterCase{is(custom("List", p.FieldKeywordList), p.Equal, value), ""})
		checkFilter(e, filterCase{is(custom("Words", p.FieldText), p.Equal, value+"nothing"), ""})
		checkFilter(e, filterCase{prefix(workflowID, value), ""})
		checkFilter(e, filterCase{is(system("RunId", p.FieldKeyword), p.Equal, value), ""})
	}
}

func testNastyPrefixes(e *env) {
	ids := []string{"a%", "a_", "a\\", "aé", "a\U0010FFFFx", "a\U0010FFFF", "a\uD7FFb", "a\uE000", "b"}
	for _, id := range ids {
		e.list(id, func(*p.VisibilityRow) {})
	}
	for _, start := range append(ids, "a", "") {
		var want []string
		for _, id := range ids {
			if strings.HasPrefix(id, start) {
				want = append(want, id)
			}
		}
		slices.Sort(want)
		checkFilter(e, filterCase{prefix(workflowID, start), strings.Join(want, " ")})
	}
}

// testLargeFilters are the largest that a parser lets through.
func testLargeFilters(e *env) {
	setUpFilters(e)
	const many = 400
	var conditions []p.Filter
	values := []any{"alpha"}
	for i := range many {
		conditions = append(conditions, is(number, p.NotEqual, int64(1_000+i)))
		values = append(values, fmt.Sprint("value-", i))
	}
	checkFilter(e, filterCase{and(conditions...), "a b c e"})
	checkFilter(e, filterCase{or(conditions...), "a b c e"})
	checkFilter(e, filterCase{in(color, values...), "a"})
	checkFilter(e, filterCase{in(tags, append(values, "red")...), "a"})
	nested := is(color, p.Equal, "alpha")
	for range 100 {
		nested = not(and(nested, notNull(workflowID)))
	}
	checkFilter(e, filterCase{nested, "a"})
}

func mustJSON(v any) []byte {
	document, err := json.Marshal(v)
	if err != nil {
		panic(err) // the tests' own values can be marshalled
	}
	return document
}
