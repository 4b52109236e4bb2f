package workflow

import (
	"encoding/json"

	commonpb "go.temporal.io/api/common/v1"
	"google.golang.org/protobuf/proto"
)

// Search attributes that the server itself keeps.
const (
	attributeProblems = "TemporalReportedProblems"
	attributeBuildIDs = "BuildIds"
)

// setKeywords sets a KeywordList attribute; no values delete it.
func (t *Tx) setKeywords(name string, values []string) {
	attributes := t.editAttributes()
	fields := map[string]*commonpb.Payload{}
	for k, v := range attributes.SearchAttributes.GetIndexedFields() {
		fields[k] = v
	}
	if len(values) == 0 {
		delete(fields, name)
	} else {
		data, _ := json.Marshal(values) // strings always encode
		fields[name] = &commonpb.Payload{Data: data, Metadata: map[string][]byte{"encoding": []byte("json/plain"), "type": []byte("KeywordList")}}
	}
	attributes.SearchAttributes = &commonpb.SearchAttributes{IndexedFields: fields}
}

// noteBuild adds the build that completed a task to the run's BuildIds.
func (t *Tx) noteBuild(build string, versioned bool) {
	value := "unversioned"
	switch {
	case build != "" && versioned:
		value = "versioned:" + build
	case build != "":
		value = "unversioned:" + build
	}
	var values []string
	if p := t.attributes.GetSearchAttributes().GetIndexedFields()[attributeBuildIDs]; p != nil {
		_ = json.Unmarshal(p.Data, &values) // an undecodable list is replaced
	}
	for _, v := range values {
		if v == value {
			return
		}
	}
	if len(values) == 0 && value != "unversioned" {
		values = []string{"unversioned"}
	}
	t.setKeywords(attributeBuildIDs, append(values, value))
}

// noteWorkerVersion remembers what the worker that completed a task said it is. Lists do not show it.
func (t *Tx) noteWorkerVersion(stamp *commonpb.WorkerVersionStamp) {
	if proto.Equal(t.attributes.GetWorkerVersion(), stamp) {
		return
	}
	listed := t.visibility
	t.editAttributes().WorkerVersion = stamp
	t.visibility = listed
}
