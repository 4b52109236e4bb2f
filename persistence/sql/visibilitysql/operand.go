package visibilitysql

import (
	"strings"
	"time"

	"github.com/perdure/perdure/persistence"
)

// class is how the values of a field compare.
type class int

const (
	classText     class = iota + 1 // bytewise
	classInt                       // an integer column
	classNanos                     // an integer column of nanoseconds since 1970
	classNumber                    // a JSON number
	classBool                      // a JSON true or false
	classDatetime                  // a JSON string, see Datetime
	classWords                     // the words of a JSON string
	classList                      // the members of a JSON array
)

// operand is a field in SQL: an expression that is NULL where the field is missing.
type operand struct {
	field persistence.Field
	sql   string
	class class
	// uuid is the bare column where it is a uuid, which an index knows; sql is its text.
	uuid string
}

type column struct {
	sqlite, postgres string
	class            class
	uuid             string
}

func same(sql string, class class) column { return column{sqlite: sql, postgres: sql, class: class} }

// id is a column that is a uuid in PostgreSQL: what a user compares it with need not be one.
func id(name string) column {
	return column{sqlite: "NULLIF(" + name + ", '')", postgres: name + "::text", class: classText, uuid: name}
}

// systemColumns are the fields that are not custom.
var systemColumns = map[string]column{
	"WorkflowId":           same("workflow_id", classText),
	"RunId":                {sqlite: "run_id", postgres: "run_id::text", class: classText, uuid: "run_id"},
	"WorkflowType":         same("workflow_type", classText),
	"TaskQueue":            same("task_queue", classText),
	"ExecutionStatus":      same("status", classInt),
	"StartTime":            same("start_time", classNanos),
	"ExecutionTime":        same("execution_time", classNanos),
	"CloseTime":            same("close_time", classNanos),
	"ExecutionDuration":    {sqlite: "(close_time - execution_time)", postgres: "(close_time::numeric - execution_time)", class: classInt}, // must not overflow
	"HistoryLength":        same("history_length", classInt),
	"HistorySizeBytes":     same("history_size_bytes", classInt),
	"StateTransitionCount": same("state_transition_count", classInt),
	"ParentWorkflowId":     same("NULLIF(parent_workflow_id, '')", classText),
	"ParentRunId":          id("parent_run_id"),
	"RootWorkflowId":       same("root_workflow_id", classText),
	"RootRunId":            id("root_run_id"),
}

// closeTime is the column where missing means "later than any time".
const closeTime = "CloseTime"

func (b *builder) operand(f persistence.Field) (operand, error) {
	if f.Custom {
		return b.attribute(f)
	}
	c, ok := systemColumns[f.Name]
	if !ok {
		return operand{}, badFilter("unknown system field %q", f.Name)
	}
	if b.dialect == Postgres {
		return operand{field: f, sql: c.postgres, class: c.class, uuid: c.uuid}, nil
	}
	return operand{field: f, sql: c.sqlite, class: c.class}, nil
}

// attribute is an entry of search_attributes. The CASE keeps values of another type out: it becomes NULL before anything is cast.
func (b *builder) attribute(f persistence.Field) (operand, error) {
	var (
		class               class
		sqliteTypes, pgType string
		pgCast              string
	)
	switch f.Type {
	case persistence.FieldKeyword:
		class, sqliteTypes, pgType = classText, "'text'", "'string'"
	case persistence.FieldText:
		class, sqliteTypes, pgType = classWords, "'text'", "'string'"
	case persistence.FieldDatetime:
		class, sqliteTypes, pgType = classDatetime, "'text'", "'string'"
	case persistence.FieldInt, persistence.FieldDouble:
		class, sqliteTypes, pgType, pgCast = classNumber, "'integer', 'real'", "'number'", "::numeric"
	case persistence.FieldBool:
		class, sqliteTypes, pgType, pgCast = classBool, "'true', 'false'", "'boolean'", "::boolean"
	case persistence.FieldKeywordList:
		class, sqliteTypes, pgType = classList, "'array'", "'array'"
	default:
		return operand{}, badFilter("field %q has the unknown type %d", f.Name, f.Type)
	}
	if b.dialect == SQLite {
		path := b.arg(sqlitePath(f.Name))
		sql := "CASE WHEN json_type(search_attributes, " + path + ") IN (" + sqliteTypes + ") THEN json_extract(search_attributes, " + path + ") END"
		return operand{field: f, sql: sql, class: class}, nil
	}
	name := b.textArg(f.Name)
	value := "(search_attributes -> " + name + ")" + pgCast
	if pgCast == "" {
		value = "search_attributes ->> " + name
	}
	sql := "CASE WHEN jsonb_typeof(search_attributes -> " + name + ") = " + pgType + " THEN " + value + " END"
	return operand{field: f, sql: sql, class: class}, nil
}

// sqlitePath names a member of the top-level object, whatever characters its name has. A zero byte would end the path.
func sqlitePath(name string) string {
	return `$."` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\x00", "\uFFFD").Replace(name) + `"`
}

// value adds an argument for a value that is compared with the operand.
func (b *builder) value(o operand, v any) (string, error) {
	switch o.class {
	case classText:
		if s, ok := v.(string); ok {
			return b.textArg(s), nil
		}
	case classInt, classNumber:
		return b.number(o, v)
	case classNanos:
		if t, ok := v.(time.Time); ok {
			return b.typed(Nanos(t), "::bigint"), nil
		}
	case classDatetime:
		if t, ok := v.(time.Time); ok {
			return b.typed(Datetime(t), "::text"), nil
		}
	case classBool:
		if v, ok := v.(bool); ok {
			return b.typed(v, "::boolean"), nil
		}
	}
	return "", badFilter("%s cannot be compared with a %T", o.field.Name, v)
}

// number compares numbers of all kinds by their value.
func (b *builder) number(o operand, v any) (string, error) {
	switch v := v.(type) {
	case int64:
		return b.typed(v, "::bigint"), nil
	case float64:
		return b.float(v), nil
	}
	return "", badFilter("%s cannot be compared with a %T", o.field.Name, v)
}

// typed adds an argument with a cast for PostgreSQL, which otherwise would have to guess its type.
func (b *builder) typed(v any, cast string) string {
	if b.dialect == Postgres {
		return b.arg(v) + cast
	}
	return b.arg(v)
}
