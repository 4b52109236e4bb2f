package sdk

import (
	"fmt"
	"slices"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

var attributeFeatures = group{"attribute", map[string]func(*env){
	"start":   attributeStart,
	"upsert":  attributeUpsert,
	"untyped": attributeUntyped,
	"unknown": attributeUnknown,
	"count":   attributeCount,
}}

var (
	keyBool     = temporal.NewSearchAttributeKeyBool("TestBool")
	keyInt      = temporal.NewSearchAttributeKeyInt64("TestInt")
	keyDouble   = temporal.NewSearchAttributeKeyFloat64("TestDouble")
	keyTime     = temporal.NewSearchAttributeKeyTime("TestTime")
	keyKeyword  = temporal.NewSearchAttributeKeyKeyword("TestKeyword")
	keyKeywords = temporal.NewSearchAttributeKeyKeywordList("TestKeywords")
	keyText     = temporal.NewSearchAttributeKeyString("TestText")
)

// withAttributes registers the search attributes of the tests. To register one again is no error.
func (e *env) withAttributes() {
	e.Helper()
	_, err := e.c.OperatorService().AddSearchAttributes(e.ctx, &operatorservice.AddSearchAttributesRequest{
		Namespace: "default",
		SearchAttributes: map[string]enumspb.IndexedValueType{
			"TestBool":     enumspb.INDEXED_VALUE_TYPE_BOOL,
			"TestInt":      enumspb.INDEXED_VALUE_TYPE_INT,
			"TestDouble":   enumspb.INDEXED_VALUE_TYPE_DOUBLE,
			"TestTime":     enumspb.INDEXED_VALUE_TYPE_DATETIME,
			"TestKeyword":  enumspb.INDEXED_VALUE_TYPE_KEYWORD,
			"TestKeywords": enumspb.INDEXED_VALUE_TYPE_KEYWORD_LIST,
			"TestText":     enumspb.INDEXED_VALUE_TYPE_TEXT,
		},
	})
	require.NoError(e, err)
}

// list returns the ids of the workflows that a filter finds, sorted.
func (e *env) list(filter string) []string {
	e.Helper()
	var ids []string
	for token := []byte(nil); ; {
		page, err := e.c.ListWorkflow(e.ctx, &workflowservice.ListWorkflowExecutionsRequest{Query: filter, NextPageToken: token})
		require.NoError(e, err, filter)
		for _, execution := range page.Executions {
			ids = append(ids, execution.Execution.WorkflowId)
		}
		if token = page.NextPageToken; len(token) == 0 {
			slices.Sort(ids)
			return ids
		}
	}
}

var when = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// filters are one or more for each type; all of them fit the attributes that the tests set.
var filters = []string{
	"TestBool = true", "TestInt = 42", "TestInt > 41 AND TestInt <= 42", "TestInt BETWEEN 40 AND 50", "TestDouble > 2.5 AND TestDouble < 2.8",
	"TestTime = '2026-03-01T12:00:00Z'", "TestTime < '2026-03-02T00:00:00Z'", "TestKeyword = 'a key'", "TestKeyword IN ('x', 'a key')",
	"TestKeyword STARTS_WITH 'a k'", "TestKeywords = 'two'", "TestKeywords IN ('three', 'one')", "TestText = 'fox'", "TestBool IS NOT NULL",
	"NOT TestInt = 41", "TestKeyword = 'x' OR TestInt = 42",
}

// unfit are filters that do not fit them.
var unfit = []string{
	"TestBool = false", "TestInt != 42", "TestInt IN (1, 2)", "TestDouble >= 3", "TestTime > '2026-03-02T00:00:00Z'", "TestKeyword != 'a key'",
	"TestKeyword = 'a'", "TestKeywords = 'three'", "TestText = 'cat'", "TestText IS NULL",
}

func (e *env) requireFound(id string) {
	e.Helper()
	mine := " AND TaskQueue = '" + e.queue + "'"
	for _, filter := range filters {
		require.Equal(e, []string{id}, e.list("("+filter+")"+mine), filter)
	}
	for _, filter := range unfit {
		require.Empty(e, e.list("("+filter+")"+mine), filter)
	}
}

func attributeStart(e *env) {
	e.withAttributes()
	e.work(code{"main": func(ctx workflow.Context) error {
		attributes := workflow.GetTypedSearchAttributes(ctx)
		n, _ := attributes.GetInt64(keyInt)
		words, _ := attributes.GetKeywordList(keyKeywords)
		at, _ := attributes.GetTime(keyTime)
		return check(n == 42 && slices.Equal(words, []string{"one", "two"}) && at.Equal(when), "the workflow sees %v", attributes)
	}})
	o := e.options()
	o.TypedSearchAttributes = temporal.NewSearchAttributes(
		keyBool.ValueSet(true), keyInt.ValueSet(42), keyDouble.ValueSet(2.75), keyTime.ValueSet(when), keyKeyword.ValueSet("a key"),
		keyKeywords.ValueSet([]string{"one", "two"}), keyText.ValueSet("the quick brown fox"),
	)
	run := e.startWith(o, "main")
	e.requireFound(run.GetID())
	e.done(run)
	e.requireFound(run.GetID())
}

func attributeUpsert(e *env) {
	e.withAttributes()
	e.work(code{"main": func(ctx workflow.Context) error {
		err := workflow.UpsertTypedSearchAttributes(ctx,
			keyBool.ValueSet(true), keyInt.ValueSet(42), keyDouble.ValueSet(2.75), keyTime.ValueSet(when), keyKeyword.ValueSet("a key"),
			keyKeywords.ValueSet([]string{"one", "two"}), keyText.ValueSet("the quick brown fox"),
		)
		workflow.GetSignalChannel(ctx, "next").Receive(ctx, nil)
		if err == nil {
			err = workflow.UpsertTypedSearchAttributes(ctx, keyInt.ValueUnset(), keyKeyword.ValueSet("another"))
		}
		return err
	}})
	o := e.options()
	o.TypedSearchAttributes = temporal.NewSearchAttributes(keyInt.ValueSet(1))
	run := e.startWith(o, "main")
	e.awaitEvents(run, enumspb.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES, 1)
	e.requireFound(run.GetID())
	e.signal(run, "next", nil)
	e.done(run)
	mine := " AND TaskQueue = '" + e.queue + "'"
	require.Equal(e, []string{run.GetID()}, e.list("TestInt IS NULL AND TestKeyword = 'another' AND TestBool = true"+mine))
	require.Equal(e, []string{run.GetID()}, e.list("ExecutionStatus = 'Completed'"+mine))
}

func attributeUnknown(e *env) {
	o := e.options()
	o.TypedSearchAttributes = temporal.NewSearchAttributes(temporal.NewSearchAttributeKeyInt64("NobodyRegisteredIt").ValueSet(1))
	_, err := e.c.ExecuteWorkflow(e.ctx, o, "main")
	require.ErrorContains(e, err, "NobodyRegisteredIt")
}

// Lists are complete over pages, and counts agree, also in groups.
func attributeCount(e *env) {
	const count = 7
	e.work(code{"main": func(ctx workflow.Context, n int) error { return check(n%2 == 0, "%d is odd", n) }})
	var want []string
	for n := range count {
		o := e.options()
		o.ID = fmt.Sprintf("%s-%d", e.queue, n)
		want = append(want, o.ID)
		run := e.startWith(o, "main", n)
		if err := run.Get(e.ctx, nil); n%2 == 0 {
			require.NoError(e, err)
		}
	}
	mine := "TaskQueue = '" + e.queue + "'"
	var got []string
	for token := []byte(nil); ; {
		page, err := e.c.ListWorkflow(e.ctx, &workflowservice.ListWorkflowExecutionsRequest{Query: mine, PageSize: 3, NextPageToken: token})
		require.NoError(e, err)
		require.LessOrEqual(e, len(page.Executions), 3)
		for _, execution := range page.Executions {
			got = append(got, execution.Execution.WorkflowId)
		}
		if token = page.NextPageToken; len(token) == 0 {
			break
		}
	}
	slices.Sort(got)
	require.Equal(e, want, got)
	total, err := e.c.CountWorkflow(e.ctx, &workflowservice.CountWorkflowExecutionsRequest{Query: mine})
	require.NoError(e, err)
	require.EqualValues(e, count, total.Count)
	grouped, err := e.c.CountWorkflow(e.ctx, &workflowservice.CountWorkflowExecutionsRequest{Query: mine + " GROUP BY ExecutionStatus"})
	require.NoError(e, err)
	groups := map[string]int64{}
	for _, g := range grouped.Groups {
		groups[string(g.GroupValues[0].Data)] = g.Count
	}
	require.Equal(e, map[string]int64{`"Completed"`: 4, `"Failed"`: 3}, groups)
}
