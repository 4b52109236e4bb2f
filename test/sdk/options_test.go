package sdk

import (
	"maps"
	"reflect"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// option is what is known of one field of the SDK's options: a run that would go another way without it, or the reason why no server
// ever hears of it.
type option struct {
	run        func(*env)
	clientSide string
}

// runs is an option that a server has a part in.
func runs(f func(*env)) option { return option{run: f} }

// clientSide is an option that is settled within the worker or the client.
func clientSide(why string) option { return option{clientSide: why} }

// table has a row for each exported field of a type.
type table struct {
	typ  reflect.Type
	rows map[string]option
}

var tables = map[string]table{
	"StartWorkflowOptions":    {reflect.TypeFor[client.StartWorkflowOptions](), startOptions},
	"ActivityOptions":         {reflect.TypeFor[workflow.ActivityOptions](), activityOptions},
	"LocalActivityOptions":    {reflect.TypeFor[workflow.LocalActivityOptions](), localActivityOptions},
	"ChildWorkflowOptions":    {reflect.TypeFor[workflow.ChildWorkflowOptions](), childOptions},
	"WorkerOptions":           {reflect.TypeFor[worker.Options](), workerOptions},
	"RegisterWorkflowOptions": {reflect.TypeFor[workflow.RegisterOptions](), registerWorkflowOptions},
	"RegisterActivityOptions": {reflect.TypeFor[activity.RegisterOptions](), registerActivityOptions},
	"RetryPolicy":             {reflect.TypeFor[temporal.RetryPolicy](), retryOptions},
}

// A new field of the SDK fails this test until there is a row for it.
func TestEveryOptionHasARow(t *testing.T) {
	for name, table := range tables {
		var fields []string
		for i := range table.typ.NumField() {
			if f := table.typ.Field(i); f.IsExported() {
				fields = append(fields, f.Name)
			}
		}
		require.ElementsMatch(t, fields, slices.Collect(maps.Keys(table.rows)), name)
		for field, row := range table.rows {
			require.NotEqual(t, row.run == nil, row.clientSide == "", "%s.%s either runs or says why not", name, field)
		}
	}
}

// optionGroups are the rows that run.
func optionGroups() []group {
	var groups []group
	for name, table := range tables {
		tests := map[string]func(*env){}
		for field, row := range table.rows {
			if row.run != nil {
				tests[field] = row.run
			}
		}
		groups = append(groups, group{name, tests})
	}
	return groups
}
