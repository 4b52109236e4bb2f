package visibility

import (
	"maps"
	"strings"

	enumspb "go.temporal.io/api/enums/v1"

	"github.com/perdure/perdure/persistence"
)

// Names of attributes that the server itself sets or looks at.
const (
	WorkflowID         = "WorkflowId"
	RunID              = "RunId"
	WorkflowType       = "WorkflowType"
	ExecutionStatus    = "ExecutionStatus"
	TaskQueue          = "TaskQueue"
	StartTime          = "StartTime"
	ExecutionTime      = "ExecutionTime"
	CloseTime          = "CloseTime"
	ExecutionDuration  = "ExecutionDuration"
	HistoryLength      = "HistoryLength"
	BuildIDs           = "BuildIds"
	ChangeVersion      = "TemporalChangeVersion"
	NamespaceDivision  = "TemporalNamespaceDivision"
	PauseInfo          = "TemporalPauseInfo"
	ReportedProblems   = "TemporalReportedProblems"
	ScheduledByID      = "TemporalScheduledById"
	ScheduledStartTime = "TemporalScheduledStartTime"
)

// reservedPrefix begins names that belong to the server.
const reservedPrefix = "Temporal"

// systemAttributes are columns of a row. Clients can search for them, not set them.
var systemAttributes = map[string]enumspb.IndexedValueType{
	WorkflowID:             enumspb.INDEXED_VALUE_TYPE_KEYWORD,
	RunID:                  enumspb.INDEXED_VALUE_TYPE_KEYWORD,
	WorkflowType:           enumspb.INDEXED_VALUE_TYPE_KEYWORD,
	ExecutionStatus:        enumspb.INDEXED_VALUE_TYPE_KEYWORD,
	TaskQueue:              enumspb.INDEXED_VALUE_TYPE_KEYWORD,
	"ParentWorkflowId":     enumspb.INDEXED_VALUE_TYPE_KEYWORD,
	"ParentRunId":          enumspb.INDEXED_VALUE_TYPE_KEYWORD,
	"RootWorkflowId":       enumspb.INDEXED_VALUE_TYPE_KEYWORD,
	"RootRunId":            enumspb.INDEXED_VALUE_TYPE_KEYWORD,
	StartTime:              enumspb.INDEXED_VALUE_TYPE_DATETIME,
	ExecutionTime:          enumspb.INDEXED_VALUE_TYPE_DATETIME,
	CloseTime:              enumspb.INDEXED_VALUE_TYPE_DATETIME,
	HistoryLength:          enumspb.INDEXED_VALUE_TYPE_INT,
	"HistorySizeBytes":     enumspb.INDEXED_VALUE_TYPE_INT,
	ExecutionDuration:      enumspb.INDEXED_VALUE_TYPE_INT,
	"StateTransitionCount": enumspb.INDEXED_VALUE_TYPE_INT,
}

// predefinedAttributes are entries of a row's search attributes that every namespace has. Clients may set them.
var predefinedAttributes = map[string]enumspb.IndexedValueType{
	ChangeVersion:                          enumspb.INDEXED_VALUE_TYPE_KEYWORD_LIST,
	"BinaryChecksums":                      enumspb.INDEXED_VALUE_TYPE_KEYWORD_LIST,
	BuildIDs:                               enumspb.INDEXED_VALUE_TYPE_KEYWORD_LIST,
	PauseInfo:                              enumspb.INDEXED_VALUE_TYPE_KEYWORD_LIST,
	ReportedProblems:                       enumspb.INDEXED_VALUE_TYPE_KEYWORD_LIST,
	"TemporalUsedWorkerDeploymentVersions": enumspb.INDEXED_VALUE_TYPE_KEYWORD_LIST,
	"BatcherNamespace":                     enumspb.INDEXED_VALUE_TYPE_KEYWORD,
	"BatcherUser":                          enumspb.INDEXED_VALUE_TYPE_KEYWORD,
	ScheduledByID:                          enumspb.INDEXED_VALUE_TYPE_KEYWORD,
	NamespaceDivision:                      enumspb.INDEXED_VALUE_TYPE_KEYWORD,
	"TemporalWorkerDeployment":             enumspb.INDEXED_VALUE_TYPE_KEYWORD,
	"TemporalWorkerDeploymentVersion":      enumspb.INDEXED_VALUE_TYPE_KEYWORD,
	"TemporalWorkflowVersioningBehavior":   enumspb.INDEXED_VALUE_TYPE_KEYWORD,
	ScheduledStartTime:                     enumspb.INDEXED_VALUE_TYPE_DATETIME,
	"TemporalSchedulePaused":               enumspb.INDEXED_VALUE_TYPE_BOOL,
	"TemporalExternalPayloadCount":         enumspb.INDEXED_VALUE_TYPE_INT,
	"TemporalExternalPayloadSizeBytes":     enumspb.INDEXED_VALUE_TYPE_INT,
}

// SystemAttributes returns the names and types that every namespace has: the system's and the predefined ones. The map is the
// caller's.
func SystemAttributes() map[string]enumspb.IndexedValueType {
	all := maps.Clone(systemAttributes)
	maps.Copy(all, predefinedAttributes)
	return all
}

// Reserved tells whether a name cannot be a custom attribute because it belongs to the server.
func Reserved(name string) bool {
	_, system := systemAttributes[name]
	_, predefined := predefinedAttributes[name]
	return system || predefined || strings.HasPrefix(name, reservedPrefix)
}

// Attributes is the search attributes that can be used in one namespace. It is immutable.
type Attributes struct {
	namespace string
	custom    map[string]enumspb.IndexedValueType
}

// NewAttributes makes the view of a namespace (its name is for error messages) with its custom attributes by name.
func NewAttributes(namespace string, custom map[string]enumspb.IndexedValueType) *Attributes {
	return &Attributes{namespace: namespace, custom: maps.Clone(custom)}
}

// Custom returns the custom attributes by name. The map is the caller's.
func (a *Attributes) Custom() map[string]enumspb.IndexedValueType {
	custom := make(map[string]enumspb.IndexedValueType, len(a.custom))
	maps.Copy(custom, a.custom)
	return custom
}

// settable is the type of an attribute whose value is an entry of a row's search attributes.
func (a *Attributes) settable(name string) (enumspb.IndexedValueType, bool) {
	if t, ok := predefinedAttributes[name]; ok {
		return t, true
	}
	t, ok := a.custom[name]
	return t, ok
}

// field resolves a name of the filter language.
func (a *Attributes) field(name string) (persistence.Field, bool) {
	if t, ok := systemAttributes[name]; ok {
		return persistence.Field{Name: name, Type: fieldTypes[t]}, true
	}
	if t, ok := a.settable(name); ok {
		return persistence.Field{Name: name, Type: fieldTypes[t], Custom: true}, true
	}
	return persistence.Field{}, false
}

var fieldTypes = map[enumspb.IndexedValueType]persistence.FieldType{
	enumspb.INDEXED_VALUE_TYPE_TEXT:         persistence.FieldText,
	enumspb.INDEXED_VALUE_TYPE_KEYWORD:      persistence.FieldKeyword,
	enumspb.INDEXED_VALUE_TYPE_INT:          persistence.FieldInt,
	enumspb.INDEXED_VALUE_TYPE_DOUBLE:       persistence.FieldDouble,
	enumspb.INDEXED_VALUE_TYPE_BOOL:         persistence.FieldBool,
	enumspb.INDEXED_VALUE_TYPE_DATETIME:     persistence.FieldDatetime,
	enumspb.INDEXED_VALUE_TYPE_KEYWORD_LIST: persistence.FieldKeywordList,
}
