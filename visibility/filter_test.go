package visibility

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"

	"github.com/perdure/perdure/persistence"
)

// corpus is the workflows that the recordings of the reference search. In the order of a list: open first, then by close time.
var corpus = []persistence.VisibilityRow{
	corpusRow("vis-d", "CorpusB", 1, 0, ``),
	corpusRow("vis-b", "CorpusA", 1, 0, `"EcKeyword":"beta","EcText":"the lazy dog","EcInt":2,"EcDouble":1.5,"EcBool":false,
		"EcTime":"2001-02-01T00:00:00.000000000Z","EcList":["green"]`),
	corpusRow("vis-a", "CorpusA", 1, 0, `"EcKeyword":"alpha","EcText":"the quick brown fox","EcInt":1,"EcDouble":0.5,"EcBool":true,
		"EcTime":"2001-01-01T00:00:00.000000000Z","EcList":["red","green"]`),
	corpusRow("vis-f", "CorpusA", 3, 5, `"EcKeyword":"alpha","EcInt":10`),
	corpusRow("vis-e", "CorpusB", 2, 5, `"EcKeyword":"it's","EcList":["red"]`),
	corpusRow("vis-c", "CorpusB", 5, 3, `"EcKeyword":"gamma ray","EcText":"quick silver","EcInt":3,"EcDouble":2.5,"EcBool":true,
		"EcTime":"2001-03-01T00:00:00.000000000Z","EcList":["blue"]`),
}

func corpusRow(id, typ string, status int32, length int64, sa string) persistence.VisibilityRow {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	row := persistence.VisibilityRow{WorkflowID: id, RunID: "run-" + id, WorkflowType: typ, Status: status, HistoryLength: length, StartTime: start,
		ExecutionTime: start, RootWorkflowID: id, SearchAttributes: []byte("{" + sa + "}")}
	if status != 1 {
		row.CloseTime = start.Add(time.Minute)
	}
	return row
}

func search(t *testing.T, f persistence.Filter) []string {
	var ids []string
	for _, row := range corpus {
		if matches(t, f, &row) {
			ids = append(ids, strings.TrimPrefix(row.WorkflowID, "vis-"))
		}
	}
	return ids
}

// matches evaluates a filter as the contract of persistence.Filter says: a missing value fulfils nothing but IsNull and the
// negations about sets, and an open run's close time is later than any other.
func matches(t *testing.T, f persistence.Filter, row *persistence.VisibilityRow) bool {
	switch f := f.(type) {
	case nil:
		return true
	case persistence.And:
		return !slices.ContainsFunc(f.Filters, func(f persistence.Filter) bool { return !matches(t, f, row) })
	case persistence.Or:
		return slices.ContainsFunc(f.Filters, func(f persistence.Filter) bool { return matches(t, f, row) })
	case persistence.IsNull:
		return (fieldValue(t, f.Field, row) == nil) != f.Negate
	case persistence.Compare:
		v := fieldValue(t, f.Field, row)
		if v == nil {
			late := f.Field.Name == CloseTime && (f.Op == persistence.Greater || f.Op == persistence.GreaterOrEqual)
			return f.Op == persistence.NotEqual && isSet(f.Field) || late
		}
		return compareMatches(f, v)
	case persistence.In:
		v := fieldValue(t, f.Field, row)
		if v == nil {
			return f.Negate && isSet(f.Field)
		}
		return slices.ContainsFunc(f.Values, func(w any) bool { return equal(v, w) }) != f.Negate
	case persistence.Between:
		v := fieldValue(t, f.Field, row)
		return v != nil && (order(v, f.Low) >= 0 && order(v, f.High) <= 0) != f.Negate
	case persistence.StartsWith:
		v := fieldValue(t, f.Field, row)
		return v != nil && strings.HasPrefix(v.(string), f.Prefix) != f.Negate
	}
	t.Fatalf("unexpected filter %T", f)
	return false
}

func isSet(f persistence.Field) bool {
	return f.Type == persistence.FieldKeywordList || f.Type == persistence.FieldText
}

func compareMatches(f persistence.Compare, v any) bool {
	if f.Field.Type == persistence.FieldText {
		words := strings.Fields(v.(string))
		found := slices.ContainsFunc(strings.Fields(f.Value.(string)), func(w string) bool { return slices.Contains(words, w) })
		return found == (f.Op == persistence.Equal)
	}
	switch f.Op {
	case persistence.Equal:
		return equal(v, f.Value)
	case persistence.NotEqual:
		return !equal(v, f.Value)
	case persistence.Less:
		return order(v, f.Value) < 0
	case persistence.LessOrEqual:
		return order(v, f.Value) <= 0
	case persistence.Greater:
		return order(v, f.Value) > 0
	}
	return order(v, f.Value) >= 0
}

func equal(v, want any) bool {
	if list, ok := v.([]string); ok {
		return slices.Contains(list, want.(string))
	}
	return order(v, want) == 0
}

func order(v, w any) int {
	switch v := v.(type) {
	case string:
		return cmp.Compare(v, w.(string))
	case int64:
		return cmp.Compare(v, w.(int64))
	case float64:
		return cmp.Compare(v, w.(float64))
	case time.Time:
		return v.Compare(w.(time.Time))
	case bool:
		return strings.Compare(fmt.Sprint(v), fmt.Sprint(w.(bool)))
	}
	panic(fmt.Sprintf("%T", v))
}

func fieldValue(t *testing.T, f persistence.Field, row *persistence.VisibilityRow) any {
	if f.Custom {
		var values map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(row.SearchAttributes, &values))
		typ, ok := testAttributes.settable(f.Name)
		require.True(t, ok)
		if values[f.Name] == nil {
			return nil
		}
		v, err := decodeJSON(typ, values[f.Name])
		require.NoError(t, err)
		return v
	}
	switch f.Name {
	case WorkflowID, "RootWorkflowId":
		return row.WorkflowID
	case RunID:
		return row.RunID
	case WorkflowType:
		return row.WorkflowType
	case ExecutionStatus:
		return int64(row.Status)
	case StartTime:
		return row.StartTime
	case HistoryLength:
		return row.HistoryLength
	case CloseTime:
		if row.CloseTime.IsZero() {
			return nil
		}
		return row.CloseTime
	case ExecutionDuration:
		if row.CloseTime.IsZero() {
			return nil
		}
		return int64(row.CloseTime.Sub(row.ExecutionTime))
	}
	t.Fatalf("unexpected field %s", f.Name)
	return nil
}

func TestFilters(t *testing.T) {
	for _, test := range []struct{ query, found string }{
		{``, "d b a f e c"},
		{"  \t\n", "d b a f e c"},
		// As the reference answers.
		{`EcKeyword = 'alpha'`, "a f"},
		{`EcKeyword = "alpha"`, "a f"},
		{`EcKeyword > 'alpha'`, "b e c"},
		{`EcKeyword <= 'beta'`, "b a f"},
		{`EcKeyword NOT IN ('alpha', 'beta')`, "e c"},
		{`EcKeyword NOT BETWEEN 'a' AND 'b'`, "b e c"},
		{`EcKeyword STARTS_WITH 'al'`, "a f"},
		{`EcKeyword STARTS_WITH '%a'`, ""},
		{`EcKeyword IS NULL`, "d"},
		{`EcKeyword IS NOT NULL`, "b a f e c"},
		{`EcKeyword = 'ALPHA'`, ""},
		{`EcKeyword = 'it''s'`, "e"},
		{`EcKeyword = "it's"`, "e"},
		{`EcList = 'red'`, "a e"},
		{`EcList != 'red'`, "d b f c"},
		{`EcList NOT IN ('red')`, "d b f c"},
		{`EcList IS NULL`, "d f"},
		{`EcText = 'quick'`, "a c"},
		{`EcText = 'quick dog'`, "b a c"},
		{`EcText IS NOT NULL`, "b a c"},
		{`EcText = '---'`, ""},
		{`EcInt >= 2`, "b f c"},
		{`EcInt IN (1, 10)`, "a f"},
		{`EcInt = '2'`, "b"},
		{`EcInt > -1`, "b a f c"},
		{`EcDouble < 2`, "b a"},
		{`EcDouble = 5e-1`, "a"},
		{`EcBool = true`, "a c"},
		{`EcBool != true`, "b"},
		{`EcBool = 1`, "a c"},
		{`EcBool > false`, "a c"},
		{`EcTime > '2001-01-15T00:00:00Z'`, "b c"},
		{`EcTime BETWEEN '2001-01-15T00:00:00Z' AND '2001-02-15T00:00:00Z'`, "b"},
		{`EcTime < '2001-01-15T00:00:00.123456789Z'`, "a"},
		{`EcTime > 980000000000000000`, "b c"},
		{`StartTime > '2001-01-01T00:00:00Z'`, "d b a f e c"},
		{`CloseTime IS NULL`, "d b a"},
		{`ExecutionDuration < 3600000000000`, "f e c"},
		{`ExecutionDuration < '01:00:00'`, "f e c"},
		{`HistoryLength >= 5 AND WorkflowType IN ('CorpusA', 'CorpusB')`, "f e"},
		{`ExecutionStatus = 'Terminated'`, "c"},
		{`ExecutionStatus = 'WORKFLOW_EXECUTION_STATUS_TERMINATED'`, "c"},
		{`ExecutionStatus = 5`, "c"},
		{`ExecutionStatus > 'Running'`, "f e c"},
		{`ExecutionStatus != 'Running'`, "f e c"},
		{`WorkflowId STARTS_WITH 'vis-'`, "d b a f e c"},
		{`RunId = '00000000-0000-0000-0000-000000000000'`, ""},
		{`RootWorkflowId = 'vis-a'`, "a"},
		{`TemporalNamespaceDivision IS NULL AND WorkflowType = 'CorpusA'`, "b a f"},
		{`EcKeyword = 'alpha' AND EcInt = 1 OR EcKeyword = 'beta'`, "b a"},
		{`EcKeyword = 'alpha' AND (EcInt = 1 OR EcInt = 2)`, "a"},
		{`NOT (EcKeyword = 'alpha' OR EcKeyword = 'beta')`, "e c"},
		{`EcKeyword in ('alpha') and EcInt is not null`, "a f"},
		// Beyond the recordings.
		{`CloseTime > '2001-01-01T00:00:00Z'`, "d b a f e c"},
		{`NOT CloseTime > '2001-01-01T00:00:00Z'`, ""},
		{`CloseTime < '2101-01-01T00:00:00Z'`, "f e c"},
		{`NOT (EcList = 'red')`, "d b f c"},
		{`NOT NOT EcList = 'red'`, "a e"},
		{`NOT (EcList != 'red')`, "a e"},
		{`NOT EcList NOT IN ('red', 'blue')`, "a e c"},
		{`NOT EcKeyword = 'alpha' AND EcInt < 3`, "b"},
		{`NOT (EcKeyword = 'alpha' AND EcInt = 1)`, "b f e c"},
		{`NOT EcInt > 2`, "b a"},
		{`NOT EcInt BETWEEN 2 AND 3`, "a f"},
		{`NOT EcKeyword STARTS_WITH 'a'`, "b e c"},
		{`EcKeyword NOT STARTS_WITH 'a'`, "b e c"},
		{`NOT EcKeyword IS NULL`, "b a f e c"},
		{`NOT EcKeyword IS NOT NULL`, "d"},
		{`EcText != 'quick'`, "d b f e"},
		{`NOT EcText = 'quick dog'`, "d f e"},
		{`EcText != '---'`, "d b a f e c"},
		{`EcBool >= false`, "b a c"},
		{`EcBool > true`, ""},
		{`EcBool <= false`, "b"},
		{`NOT EcBool < true`, "a c"},
		{`EcBool IN (true, 'FALSE', 0)`, "b a c"},
		{`EcBool = 'false'`, "b"},
		{`EcInt <> 2`, "a f c"},
		{`EcInt = 2.0 OR EcInt = +1e1`, "b f"},
		{`EcDouble = .5 OR EcDouble = '1.5'`, "b a"},
		{`ExecutionDuration = '1m' OR ExecutionDuration = 0`, "f e c"},
		{`ExecutionDuration < '00:01:00'`, ""},
		{`ExecutionStatus IN ('Completed', 3)`, "f e"},
		{`ExecutionStatus BETWEEN 2 AND 'Failed'`, "f e"},
		{"`EcKeyword` = 'alpha'", "a f"},
		{"`Ec New` IS NULL AND EcInt=1", "a"},
		{`EcKeyword = 'it\'s'`, "e"},
		{`EcKeyword = "al\pha"`, "a f"},
		{`EcKeyword = 'a\\b' or EcKeyword = "b""c" or EcKeyword='\n\t\r'`, ""},
		{`(((EcInt=1)))`, "a"},
	} {
		f, err := testAttributes.ParseList(test.query)
		require.NoError(t, err, test.query)
		require.Equal(t, test.found, strings.Join(search(t, f), " "), test.query)
		f, groupBy, err := testAttributes.ParseCount(test.query + " group by ExecutionStatus")
		require.NoError(t, err, test.query)
		require.Equal(t, &persistence.Field{Name: ExecutionStatus, Type: persistence.FieldKeyword}, groupBy)
		require.Equal(t, test.found, strings.Join(search(t, f), " "), test.query)
	}
}

func TestFilterValues(t *testing.T) {
	division := persistence.IsNull{Field: persistence.Field{Name: NamespaceDivision, Type: persistence.FieldKeyword, Custom: true}}
	f, err := testAttributes.ParseList("")
	require.NoError(t, err)
	require.Equal(t, division, f)
	f, err = testAttributes.ParseList(`TemporalNamespaceDivision = 'TemporalScheduler'`)
	require.NoError(t, err)
	require.Equal(t, persistence.Compare{Field: division.Field, Op: persistence.Equal, Value: "TemporalScheduler"}, f)
	f, err = testAttributes.ParseList(`ExecutionStatus = 'Running' AND (ExecutionDuration > '1h' AND EcTime = 1)`)
	require.NoError(t, err)
	require.Equal(t, persistence.And{Filters: []persistence.Filter{
		persistence.Compare{Field: persistence.Field{Name: ExecutionStatus, Type: persistence.FieldKeyword}, Op: persistence.Equal, Value: int64(1)},
		persistence.Compare{Field: persistence.Field{Name: ExecutionDuration, Type: persistence.FieldInt}, Op: persistence.Greater, Value: int64(time.Hour)},
		persistence.Compare{Field: persistence.Field{Name: "EcTime", Type: persistence.FieldDatetime, Custom: true}, Op: persistence.Equal, Value: time.Unix(0, 1).UTC()},
		division,
	}}, f)
}

func TestFilterErrors(t *testing.T) {
	for _, test := range []struct{ query, message string }{
		{`EcKeyword IN ()`, "syntax error at position 15: expected a value, found )"},
		{`EcKeyword STARTS_WITH 1`, "invalid expression: right-hand side of 'starts_with' must be a literal string (got: 1)"},
		{`EcInt STARTS_WITH '1'`, "invalid expression: operator 'starts_with' not supported for Int type search attribute in `EcInt STARTS_WITH '1'`"},
		{`EcKeyword = 1`, "invalid expression: 1 is not a value of search attribute 'EcKeyword' of type Keyword (did you forget to quote it?)"},
		{`EcKeyword = true`, "invalid expression: true is not a value of search attribute 'EcKeyword' of type Keyword (did you forget to quote it?)"},
		{`EcKeyword = 'alpha`, "syntax error at position 13: the quote ' is not closed"},
		{`EcKeyword = 'alpha\'`, "syntax error at position 13: the quote ' is not closed"},
		{"EcKeyword = 'a\x00'", "syntax error at position 15: the character U+0000 cannot be stored"},
		{`EcList > 'a'`, "invalid expression: operator '>' not supported for KeywordList type search attribute in `EcList > 'a'`"},
		{`EcList BETWEEN 'a' AND 'z'`, "invalid expression: cannot do range condition on search attribute 'EcList' of type KeywordList"},
		{`EcList STARTS_WITH 'a'`, "invalid expression: operator 'starts_with' not supported for KeywordList type search attribute in `EcList STARTS_WITH 'a'`"},
		{`EcText IN ('quick')`, "invalid expression: operator 'in' not supported for Text type search attribute in `EcText IN ('quick')`"},
		{`EcText > 'a'`, "invalid expression: operator '>' not supported for Text type search attribute in `EcText > 'a'`"},
		{`EcInt = 'two'`, "invalid expression: 'two' is not a value of search attribute 'EcInt' of type Int"},
		{`EcInt = 1.5`, "invalid expression: 1.5 is not a value of search attribute 'EcInt' of type Int"},
		{`EcInt = 99999999999999999999`, "invalid expression: 99999999999999999999 is not a value of search attribute 'EcInt' of type Int"},
		{`EcInt = 1abc`, "invalid expression: 1abc is not a value of search attribute 'EcInt' of type Int"},
		{`EcInt = true`, "invalid expression: true is not a value of search attribute 'EcInt' of type Int"},
		{`EcDouble = 'NaN'`, "invalid expression: 'NaN' is not a value of search attribute 'EcDouble' of type Double"},
		{`EcBool = 2`, "invalid expression: 2 is not a value of search attribute 'EcBool' of type Bool"},
		{`EcBool BETWEEN false AND true`, "invalid expression: cannot do range condition on search attribute 'EcBool' of type Bool"},
		{`EcTime > 'yesterday'`, "invalid expression: unable to parse datetime 'yesterday'"},
		{`EcTime > '2001-01-01'`, "invalid expression: unable to parse datetime '2001-01-01'"},
		{`EcTime > true`, "invalid expression: unable to parse datetime true"},
		{`ExecutionDuration > 'long'`, "invalid expression: invalid ExecutionDuration value 'long': use nanoseconds, '1h30m' or '01:30:00'"},
		{`ExecutionDuration > '01:60:00'`, "invalid expression: invalid ExecutionDuration value '01:60:00': use nanoseconds, '1h30m' or '01:30:00'"},
		{`ExecutionStatus = 'Asleep'`, "invalid expression: invalid ExecutionStatus value 'Asleep'"},
		{`ExecutionStatus = 99`, "invalid expression: invalid ExecutionStatus value 99"},
		{`ExecutionStatus = 'Unspecified'`, "invalid expression: invalid ExecutionStatus value 'Unspecified'"},
		{`ExecutionStatus STARTS_WITH 'R'`, "invalid expression: operator 'starts_with' not supported for Keyword type search attribute in `ExecutionStatus STARTS_WITH 'R'`"},
		{`CustomEcKeyword = 'alpha'`, "invalid expression: column name 'CustomEcKeyword' is not a valid search attribute"},
		{`eckeyword = 'alpha'`, "invalid expression: column name 'eckeyword' is not a valid search attribute"},
		{`'alpha' = EcKeyword`, "syntax error at position 1: expected the name of a search attribute, found 'alpha'"},
		{`EcKeyword = EcText`, "operation is not supported: column name on the right side of comparison expression (did you forget to quote 'EcText'?)"},
		{`EcKeyword =`, "syntax error at position 12: expected a value, found the end"},
		{`EcKeyword = NULL`, "syntax error at position 13: expected a value (NULL is tested with IS NULL), found NULL"},
		{`EcKeyword`, "invalid expression: incomplete expression"},
		{`nonsense`, "invalid expression: incomplete expression"},
		{`nonsense = 1`, "invalid expression: column name 'nonsense' is not a valid search attribute"},
		{`EcKeyword NOT`, "syntax error at position 14: expected an operator after EcKeyword, found the end"},
		{`EcKeyword NOT = 'a'`, "syntax error at position 15: expected an operator after EcKeyword, found ="},
		{`EcKeyword IS 'a'`, "syntax error at position 14: expected NULL, found 'a'"},
		{`EcKeyword LIKE 'a%'`, "operation is not supported: operator 'like' (STARTS_WITH finds prefixes)"},
		{`EcKeyword = 'a' 'b'`, "syntax error at position 17: expected AND, OR or the end, found 'b'"},
		{`1 = 1`, "syntax error at position 1: expected the name of a search attribute, found 1"},
		{`EcInt + 1 = 2`, "syntax error at position 7: expected an operator after EcInt, found +"},
		{`EcInt = - 'a'`, "syntax error at position 11: expected a number after -, found 'a'"},
		{`EcInt IN (SELECT 1)`, "syntax error at position 11: expected a value, found SELECT"},
		{`EcInt = 1; EcInt = 2`, "syntax error at position 10: unexpected character ';'"},
		{`EcInt = 1 -- comment`, "syntax error at position 11: expected AND, OR or the end, found -"},
		{`EcInt = 1 AND`, "syntax error at position 14: expected the name of a search attribute, found the end"},
		{`(EcInt = 1`, "syntax error at position 11: expected ')', found the end"},
		{`EcInt = 1)`, "syntax error at position 10: expected AND, OR or the end, found )"},
		{`EcInt BETWEEN 1 OR 2`, "syntax error at position 17: expected AND, found OR"},
		{`WorkflowType = 'CorpusA' ORDER BY StartTime`, "operation is not supported: 'ORDER BY' clause"},
		{`ORDER BY StartTime DESC`, "operation is not supported: 'ORDER BY' clause"},
		{`WorkflowId = 'x' LIMIT 3`, "operation is not supported: 'LIMIT' clause"},
		{`GROUP BY EcKeyword`, "operation is not supported: 'GROUP BY' clause is only supported for ExecutionStatus"},
		{`GROUP BY ExecutionStatus, WorkflowType`, "operation is not supported: 'GROUP BY' clause supports only a single field"},
		{`GROUP BY ExecutionStatus HAVING 1 = 1`, "operation is not supported: 'HAVING' clause"},
		{`GROUP ExecutionStatus`, "syntax error at position 7: expected BY, found ExecutionStatus"},
		{`SELECT * FROM executions`, "syntax error at position 1: expected the name of a search attribute, found SELECT"},
		{strings.Repeat("(", 60) + "EcInt = 1" + strings.Repeat(")", 60), "syntax error at position 51: nested deeper than 50 levels"},
		{strings.Repeat("NOT ", 60) + "EcInt = 1", "syntax error at position 201: nested deeper than 50 levels"},
		{"EcInt = 1" + strings.Repeat(" OR EcInt = 1", 400), "more than 400 conditions"},
		{"EcInt IN (1" + strings.Repeat(",1", filterValuesMax) + ")", "invalid expression: more than 10000 values"},
		{strings.Repeat(" ", FilterBytesMax+1), "length 262145 exceeds limit 262144"},
	} {
		_, _, err := testAttributes.ParseCount(test.query)
		var invalid *serviceerror.InvalidArgument
		require.ErrorAs(t, err, &invalid, test.query)
		require.EqualError(t, err, "invalid query: "+test.message)
		_, err = testAttributes.ParseList(test.query)
		require.EqualError(t, err, "invalid query: "+test.message)
		var unknown *UnknownAttributeError
		require.Equal(t, strings.Contains(test.message, "not a valid search attribute"), asUnknown(err, &unknown), test.query)
	}
	_, err := testAttributes.ParseList(`GROUP BY ExecutionStatus`)
	require.EqualError(t, err, "invalid query: operation is not supported: 'GROUP BY' clause")
}

func asUnknown(err error, target **UnknownAttributeError) (ok bool) {
	*target, ok = err.(*UnknownAttributeError)
	return ok
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{``, `EcKeyword = 'it''s' AND NOT (EcInt IN (1,-2) OR EcList != "x\"")`, `EcTime BETWEEN 1 AND '2001-01-01T00:00:00Z'`,
		"`Ec New` NOT STARTS_WITH 'a' GROUP BY ExecutionStatus", `EcText != 'a b' or EcBool > false`, `ExecutionDuration <= '1:2:3'`,
		`ExecutionStatus IN ('Running', 5)`, `EcDouble <> 1e-5`, `EcInt IS NOT NULL`, `ORDER BY x`, "\xff = '\xff'"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		filter, err := testAttributes.ParseList(query)
		if err != nil {
			var invalid *serviceerror.InvalidArgument
			require.ErrorAs(t, err, &invalid)
			return
		}
		require.LessOrEqual(t, len(leaves(filter)), filterConditionsMax+1)
		checkValues(t, filter)
		if len(query) < 100 {
			// NOT of a filter excludes what the filter finds.
			negated, err := testAttributes.ParseList("NOT (" + query + ")")
			if err == nil && filter != nil {
				for _, row := range corpus {
					if usesOtherColumns(filter) {
						break
					}
					require.False(t, matches(t, filter, &row) && matches(t, negated, &row), "%q finds %s", query, row.WorkflowID)
				}
			}
		}
	})
}

// usesOtherColumns tells of fields that the test's rows do not have.
func usesOtherColumns(f persistence.Filter) bool {
	known := []string{WorkflowID, "RootWorkflowId", RunID, WorkflowType, ExecutionStatus, StartTime, HistoryLength, CloseTime, ExecutionDuration}
	return slices.ContainsFunc(leaves(f), func(leaf persistence.Filter) bool {
		field, _ := leafValues(leaf)
		return !field.Custom && !slices.Contains(known, field.Name)
	})
}

func leaves(f persistence.Filter) []persistence.Filter {
	var parts []persistence.Filter
	switch f := f.(type) {
	case persistence.And:
		parts = f.Filters
	case persistence.Or:
		parts = f.Filters
	default:
		return []persistence.Filter{f}
	}
	var all []persistence.Filter
	for _, part := range parts {
		all = append(all, leaves(part)...)
	}
	return all
}

func leafValues(f persistence.Filter) (persistence.Field, []any) {
	switch f := f.(type) {
	case persistence.Compare:
		return f.Field, []any{f.Value}
	case persistence.In:
		return f.Field, f.Values
	case persistence.Between:
		return f.Field, []any{f.Low, f.High}
	case persistence.StartsWith:
		return f.Field, []any{f.Prefix}
	case persistence.IsNull:
		return f.Field, nil
	}
	return persistence.Field{}, []any{f}
}

// checkValues asserts the types that persistence.Filter promises.
func checkValues(t *testing.T, f persistence.Filter) {
	for _, leaf := range leaves(f) {
		field, values := leafValues(leaf)
		for _, v := range values {
			ok := false
			switch v.(type) {
			case string:
				ok = field.Name != ExecutionStatus && (field.Type == persistence.FieldKeyword || field.Type == persistence.FieldText || field.Type == persistence.FieldKeywordList)
			case int64:
				ok = field.Type == persistence.FieldInt || field.Name == ExecutionStatus
			case float64:
				ok = field.Type == persistence.FieldDouble
			case bool:
				ok = field.Type == persistence.FieldBool
			case time.Time:
				ok = field.Type == persistence.FieldDatetime
			}
			require.True(t, ok, "%T for %+v", v, field)
		}
	}
}
