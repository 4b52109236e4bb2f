package persistence

import (
	"context"
	"time"
)

// VisibilityRow is what list and count know of a run. It is written in the same transaction as the transition it describes.
type VisibilityRow struct {
	NamespaceID          string
	RunID                string
	WorkflowID           string
	WorkflowType         string
	TaskQueue            string
	Status               int32
	StartTime            time.Time
	ExecutionTime        time.Time
	CloseTime            time.Time // zero: open
	HistoryLength        int64
	HistorySizeBytes     int64
	StateTransitionCount int64
	ParentWorkflowID     string
	ParentRunID          string
	RootWorkflowID       string
	RootRunID            string
	// SearchAttributes is a JSON object by attribute name, nil or empty: none. Values: string for Keyword and Text, number for
	// Int and Double, true/false for Bool, [string, …] for KeywordList, and for Datetime a string in UTC of fixed width,
	// "2006-01-02T15:04:05.000000000Z", so that text order is time order.
	SearchAttributes []byte
	// Memo is opaque.
	Memo []byte
}

// FieldType is the type of a filter's field.
type FieldType int

// The types of search attributes, and of the columns behind the system's own.
const (
	FieldKeyword FieldType = iota + 1
	FieldText
	FieldInt
	FieldDouble
	FieldBool
	FieldDatetime
	FieldKeywordList
)

// Field is a column of a VisibilityRow or, if Custom, an entry of SearchAttributes.
type Field struct {
	Name   string // as in the filter language: "WorkflowId", "StartTime", "OrderColor"
	Type   FieldType
	Custom bool
}

// Filter is a resolved and type-checked condition: one of And, Or, Not, Compare, In, Between, IsNull, StartsWith.
type Filter interface{ filter() }

// CompareOp is an operator of Compare.
type CompareOp int

// The operators. On Text, Equal means that a word of the value occurs (as the reference's goldens show); on KeywordList, that the
// list contains it. Their negations hold for rows without the field too. An open run's CloseTime counts as later than any time.
const (
	Equal CompareOp = iota + 1
	NotEqual
	Less
	LessOrEqual
	Greater
	GreaterOrEqual
)

// Conditions. A value is a string (Keyword, Text, KeywordList), int64, float64, bool or time.Time, as the field's type says.
// The system field ExecutionStatus has int64 values, ExecutionDuration int64 nanoseconds. A row where the field is missing
// fulfils no condition but IsNull, and every negated one (NotEqual, NOT IN, …) as SQL users expect of the reference: a missing
// value is not equal to anything.
type (
	And     struct{ Filters []Filter }
	Or      struct{ Filters []Filter }
	Not     struct{ Filter Filter }
	Compare struct {
		Field Field
		Op    CompareOp
		Value any
	}
	In struct {
		Field  Field
		Values []any
		Negate bool
	}
	Between struct {
		Field     Field
		Low, High any
		Negate    bool
	}
	IsNull struct {
		Field  Field
		Negate bool
	}
	StartsWith struct {
		Field  Field
		Prefix string
		Negate bool
	}
)

func (And) filter()        {}
func (Or) filter()         {}
func (Not) filter()        {}
func (Compare) filter()    {}
func (In) filter()         {}
func (Between) filter()    {}
func (IsNull) filter()     {}
func (StartsWith) filter() {}

// VisibilityCursor is the last row of the page before. Rows are listed open runs first, then by close time, start time (both
// newest first) and run id.
type VisibilityCursor struct {
	CloseTime time.Time // zero: open
	StartTime time.Time
	RunID     string
}

// GroupCount is a count of the rows with one value of the grouping field.
type GroupCount struct {
	Value any
	Count int64
}

// Visibility is list and count.
type Visibility interface {
	// ListVisibility returns up to limit rows; filter may be nil, after nil for the first page.
	ListVisibility(ctx context.Context, namespaceID string, filter Filter, after *VisibilityCursor, limit int) ([]*VisibilityRow, error)
	// CountVisibility counts. With groupBy (ExecutionStatus) it also counts by value, in order of the value.
	CountVisibility(ctx context.Context, namespaceID string, filter Filter, groupBy *Field) (int64, []GroupCount, error)
}
