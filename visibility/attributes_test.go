package visibility

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"google.golang.org/protobuf/proto"

	"github.com/perdure/perdure/persistence"
)

var testAttributes = NewAttributes("ns", map[string]enumspb.IndexedValueType{
	"EcKeyword": enumspb.INDEXED_VALUE_TYPE_KEYWORD,
	"EcText":    enumspb.INDEXED_VALUE_TYPE_TEXT,
	"EcInt":     enumspb.INDEXED_VALUE_TYPE_INT,
	"EcDouble":  enumspb.INDEXED_VALUE_TYPE_DOUBLE,
	"EcBool":    enumspb.INDEXED_VALUE_TYPE_BOOL,
	"EcTime":    enumspb.INDEXED_VALUE_TYPE_DATETIME,
	"EcList":    enumspb.INDEXED_VALUE_TYPE_KEYWORD_LIST,
	"Ec New":    enumspb.INDEXED_VALUE_TYPE_KEYWORD,
})

func jsonPayload(data string) *commonpb.Payload {
	return &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte("json/plain")}, Data: []byte(data)}
}

func nullPayload() *commonpb.Payload {
	return &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte("binary/null")}}
}

func attributes(pairs ...string) *commonpb.SearchAttributes {
	sa := &commonpb.SearchAttributes{IndexedFields: map[string]*commonpb.Payload{}}
	for i := 0; i < len(pairs); i += 2 {
		sa.IndexedFields[pairs[i]] = jsonPayload(pairs[i+1])
	}
	return sa
}

func TestValidateFillsInTypes(t *testing.T) {
	given := attributes("EcKeyword", `"alpha"`, "EcText", `"the quick fox"`, "EcInt", `1`, "EcDouble", `0.5`, "EcBool", `true`,
		"EcTime", `"2001-01-01T00:00:00Z"`, "EcList", `["red","green"]`, "TemporalScheduledById", `"s"`, "TemporalChangeVersion", `["x"]`)
	given.IndexedFields["EcInt"].Metadata["type"] = []byte("Keyword") // the namespace's type counts
	before := proto.CloneOf(given)
	typed, err := testAttributes.Validate(given)
	require.NoError(t, err)
	require.True(t, proto.Equal(before, given), "the argument must not change")
	want := map[string]string{"EcKeyword": "Keyword", "EcText": "Text", "EcInt": "Int", "EcDouble": "Double", "EcBool": "Bool",
		"EcTime": "Datetime", "EcList": "KeywordList", "TemporalScheduledById": "Keyword", "TemporalChangeVersion": "KeywordList"}
	require.Len(t, typed.GetIndexedFields(), len(want))
	for name, typ := range want {
		p := typed.GetIndexedFields()[name]
		require.Equal(t, typ, string(p.GetMetadata()["type"]), name)
		require.Equal(t, "json/plain", string(p.GetMetadata()["encoding"]), name)
		require.Equal(t, given.IndexedFields[name].Data, p.GetData(), name)
	}
}

func TestValidateNulls(t *testing.T) {
	sa := attributes("EcList", `[]`, "EcKeyword", `null`, "EcBool", `[]`)
	sa.IndexedFields["EcInt"] = nullPayload()
	typed, err := testAttributes.Validate(sa)
	require.NoError(t, err)
	require.Equal(t, "Int", string(typed.IndexedFields["EcInt"].Metadata["type"]))
	require.Equal(t, "binary/null", string(typed.IndexedFields["EcInt"].Metadata["encoding"]))
	require.Nil(t, EncodeSearchAttributes(typed))
}

func TestValidateUnwrapsListsOfOne(t *testing.T) {
	typed, err := testAttributes.Validate(attributes("EcKeyword", ` ["x<y"]`, "EcInt", `[7]`, "EcList", `["z"]`,
		"EcTime", `["2001-01-01T01:00:00.5+01:00"]`))
	require.NoError(t, err)
	require.Equal(t, `"x<y"`, string(typed.IndexedFields["EcKeyword"].Data))
	require.Equal(t, `7`, string(typed.IndexedFields["EcInt"].Data))
	require.Equal(t, `["z"]`, string(typed.IndexedFields["EcList"].Data))
	require.Equal(t, `"2001-01-01T00:00:00.5Z"`, string(typed.IndexedFields["EcTime"].Data))
}

func TestValidateErrors(t *testing.T) {
	for _, test := range []struct{ name, value, message string }{
		{"NoSuchAttribute", `1`, "Namespace ns has no mapping defined for search attribute NoSuchAttribute"},
		{"Keyword01", `"x"`, "Namespace ns has no mapping defined for search attribute Keyword01"},
		{"TemporalUnheardOf", `"x"`, "Namespace ns has no mapping defined for search attribute TemporalUnheardOf"},
		{"StartTime", `"2001-01-01T00:00:00Z"`, "StartTime attribute can't be set in SearchAttributes"},
		{"WorkflowType", `"x"`, "WorkflowType attribute can't be set in SearchAttributes"},
		{"EcInt", `"large"`, "invalid value for search attribute EcInt of type Int: large"},
		{"EcInt", `1.5`, "invalid value for search attribute EcInt of type Int: 1.5"},
		{"EcInt", `99999999999999999999`, "invalid value for search attribute EcInt of type Int: 1e+20"},
		{"EcInt", `{"data":"MQ=="}`, "invalid value for search attribute EcInt of type Int: map[data:MQ==]"},
		{"EcInt", `1 2`, "invalid value for search attribute EcInt of type Int: 3 bytes"},
		{"EcInt", ``, "invalid value for search attribute EcInt of type Int: 0 bytes"},
		{"EcDouble", `"1"`, "invalid value for search attribute EcDouble of type Double: 1"},
		{"EcDouble", `1e999`, "invalid value for search attribute EcDouble of type Double: 5 bytes"},
		{"EcBool", `"true"`, "invalid value for search attribute EcBool of type Bool: true"},
		{"EcKeyword", `1`, "invalid value for search attribute EcKeyword of type Keyword: 1"},
		{"EcKeyword", `["x","y"]`, "invalid value for search attribute EcKeyword of type Keyword: [x y]"},
		{"EcKeyword", "\"a\\u0000b\"", "invalid value for search attribute EcKeyword of type Keyword: a\x00b"},
		{"EcTime", `"yesterday"`, "invalid value for search attribute EcTime of type Datetime: yesterday"},
		{"EcTime", `1000000000`, "invalid value for search attribute EcTime of type Datetime: 1e+09"},
		{"EcTime", `"9999-12-31T23:59:59-01:00"`, "invalid value for search attribute EcTime of type Datetime: 9999-12-31T23:59:59-01:00"},
		{"EcList", `"x"`, "invalid value for search attribute EcList of type KeywordList: x"},
		{"EcList", `["x",1]`, "invalid value for search attribute EcList of type KeywordList: [x 1]"},
		{"EcText", `"` + strings.Repeat("x", SearchAttributeValueBytesMax) + `"`, "search attribute EcText value size 2050 exceeds limit 2048"},
	} {
		_, err := testAttributes.Validate(attributes(test.name, test.value))
		var invalid *serviceerror.InvalidArgument
		require.ErrorAs(t, err, &invalid, test.message)
		require.EqualError(t, err, test.message)
		var unknown *UnknownAttributeError
		if strings.Contains(test.message, "no mapping") {
			require.ErrorAs(t, err, &unknown)
			require.Equal(t, test.name, unknown.Name)
			require.Equal(t, test.message, serviceerror.ToStatus(err).Message())
		} else {
			require.NotErrorAs(t, err, &unknown)
		}
	}
	sa := attributes()
	sa.IndexedFields["EcInt"] = &commonpb.Payload{Data: []byte(`1`)}
	_, err := testAttributes.Validate(sa)
	require.EqualError(t, err, "invalid value for search attribute EcInt of type Int: 1 bytes")
}

func TestValidateLimits(t *testing.T) {
	custom := map[string]enumspb.IndexedValueType{}
	many := attributes()
	for i := range SearchAttributeKeysMax + 1 {
		name := "A" + strings.Repeat("x", i)
		custom[name] = enumspb.INDEXED_VALUE_TYPE_KEYWORD
		many.IndexedFields[name] = jsonPayload(`"v"`)
	}
	a := NewAttributes("ns", custom)
	_, err := a.Validate(many)
	require.EqualError(t, err, "number of search attributes 101 exceeds limit 100")
	delete(many.IndexedFields, "A")
	_, err = a.Validate(many)
	require.NoError(t, err)
	for _, p := range many.IndexedFields {
		p.Data = []byte(`"` + strings.Repeat("v", 1000) + `"`)
	}
	_, err = a.Validate(many)
	require.EqualError(t, err, "total size of search attributes exceeds limit 40960")
}

func TestRowRoundTrip(t *testing.T) {
	typed, err := testAttributes.Validate(attributes("EcKeyword", `"<a&b>"`, "EcText", `"x"`, "EcInt", `-9223372036854775808`, "EcDouble", `0.5`,
		"EcBool", `false`, "EcTime", `"2001-01-01T02:00:00.12+02:00"`, "EcList", `["red","green"]`))
	require.NoError(t, err)
	object := EncodeSearchAttributes(typed)
	require.JSONEq(t, `{"EcKeyword":"<a&b>","EcText":"x","EcInt":-9223372036854775808,"EcDouble":0.5,"EcBool":false,
		"EcTime":"2001-01-01T00:00:00.120000000Z","EcList":["red","green"]}`, string(object))
	back, err := testAttributes.DecodeSearchAttributes(object)
	require.NoError(t, err)
	typed.IndexedFields["EcTime"].Data = []byte(`"2001-01-01T00:00:00.12Z"`)
	require.True(t, proto.Equal(typed, back), back)
}

func TestDecodeLeavesOutWhatTheNamespaceLacks(t *testing.T) {
	sa, err := testAttributes.DecodeSearchAttributes([]byte(`{"Gone":"x","EcInt":"text of a former type","BuildIds":["unversioned"]}`))
	require.NoError(t, err)
	require.Len(t, sa.IndexedFields, 1)
	require.Equal(t, "KeywordList", string(sa.IndexedFields["BuildIds"].Metadata["type"]))
	_, err = testAttributes.DecodeSearchAttributes([]byte(`{`))
	require.Error(t, err)
}

func TestEncodeIsLenient(t *testing.T) {
	sa := attributes("BuildIds", `["v"]`, "EcInt", `1`, "EcKeyword", `{`)
	sa.IndexedFields["EcKeyword"].Metadata["type"] = []byte("Keyword")
	require.JSONEq(t, `{"BuildIds":["v"]}`, string(EncodeSearchAttributes(sa)))
	require.Nil(t, EncodeSearchAttributes(nil))
}

func TestNewPayload(t *testing.T) {
	p, err := NewPayload(enumspb.INDEXED_VALUE_TYPE_KEYWORD_LIST, []string{"a", "b"})
	require.NoError(t, err)
	require.Equal(t, `["a","b"]`, string(p.Data))
	require.Equal(t, "KeywordList", string(p.Metadata["type"]))
}

func TestReserved(t *testing.T) {
	for _, name := range []string{"WorkflowId", "BuildIds", "TemporalAnything", "BatcherUser"} {
		require.True(t, Reserved(name), name)
	}
	for _, name := range []string{"Order", "workflowid", "Keyword01"} {
		require.False(t, Reserved(name), name)
	}
	require.Len(t, SystemAttributes(), 33)
}

func TestExecutionInfo(t *testing.T) {
	memo := &commonpb.Memo{Fields: map[string]*commonpb.Payload{"note": jsonPayload(`"m"`)}}
	encoded, err := EncodeMemo(memo)
	require.NoError(t, err)
	started := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	row := &persistence.VisibilityRow{RunID: "r", WorkflowID: "w", WorkflowType: "t", TaskQueue: "q", Status: 1, StartTime: started,
		ExecutionTime: started.Add(time.Second), RootWorkflowID: "w", RootRunID: "r", HistoryLength: 2, HistorySizeBytes: 3, StateTransitionCount: 1}
	info, err := testAttributes.ExecutionInfo(row)
	require.NoError(t, err)
	require.Equal(t, "w", info.Execution.WorkflowId)
	require.Equal(t, "r", info.Execution.RunId)
	require.Equal(t, "t", info.Type.Name)
	require.Equal(t, "q", info.TaskQueue)
	require.Equal(t, enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING, info.Status)
	require.Equal(t, started, info.StartTime.AsTime())
	require.Nil(t, info.CloseTime)
	require.Nil(t, info.ExecutionDuration)
	require.Zero(t, info.HistoryLength)
	require.Nil(t, info.ParentExecution)
	require.Equal(t, "w", info.RootExecution.WorkflowId)
	require.NotNil(t, info.Memo)
	require.NotNil(t, info.SearchAttributes)

	row.CloseTime = started.Add(time.Minute)
	row.Memo, row.ParentWorkflowID, row.ParentRunID = encoded, "p", "pr"
	row.SearchAttributes = []byte(`{"EcInt": 2}`)
	info, err = testAttributes.ExecutionInfo(row)
	require.NoError(t, err)
	require.True(t, proto.Equal(memo, info.Memo))
	require.Equal(t, 59*time.Second, info.ExecutionDuration.AsDuration())
	require.Equal(t, int64(2), info.HistoryLength)
	require.Equal(t, int64(3), info.HistorySizeBytes)
	require.Equal(t, int64(1), info.StateTransitionCount)
	require.Equal(t, "pr", info.ParentExecution.RunId)
	require.Equal(t, "2", string(info.SearchAttributes.IndexedFields["EcInt"].Data))

	row.Memo = []byte{0xff}
	_, err = testAttributes.ExecutionInfo(row)
	require.ErrorContains(t, err, "decode memo of run r")
	none, err := EncodeMemo(nil)
	require.NoError(t, err)
	require.Nil(t, none)
}

func TestPageToken(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	run := "019b7a00-0000-7000-8000-000000000001"
	for _, closed := range []time.Time{{}, start.Add(time.Hour)} {
		cursor, err := DecodePageToken(EncodePageToken(&persistence.VisibilityRow{StartTime: start, CloseTime: closed, RunID: run}))
		require.NoError(t, err)
		require.Equal(t, &persistence.VisibilityCursor{StartTime: start, CloseTime: closed, RunID: run}, cursor)
	}
	cursor, err := DecodePageToken(nil)
	require.NoError(t, err)
	require.Nil(t, cursor)
	for _, garbage := range []string{"garbage", "{}", `{"start":1,"run":"x"}`, `{"start":1,"run":"` + run + `"} ` + "x", `{"start":1,"run":"` + run + `","more":1}`} {
		_, err := DecodePageToken([]byte(garbage))
		var invalid *serviceerror.InvalidArgument
		require.ErrorAs(t, err, &invalid, garbage)
	}
	require.Equal(t, []int{1000, 1000, 7, 1000, 1000}, []int{PageSize(-1), PageSize(0), PageSize(7), PageSize(1000), PageSize(1001)})
}
