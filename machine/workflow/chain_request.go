package workflow

import (
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	statepb "github.com/perdure/perdure/api/state/v1"
)

// A run remembers the request ids that it has applied, so that a request, or an effect of another run, that comes again
// changes nothing. A sender may come again long after: its reply was lost, the workflow has continued as new meanwhile.
// So the next run of a chain, and one that comes of a reset, begin with the recent ids of the run before.

const (
	// requestsMax bounds the remembered request ids of a run; requestsKept is what is left after pruning, so that it does not
	// happen with each request. An id is some 80 bytes: more would make snapshots of busy runs big.
	requestsMax  = 2000
	requestsKept = 1500
	// requestsCarried bounds those that go on into the next run, the newest ones, and requestAgeMax their age: workflows that
	// continue as new every second write them each time.
	requestsCarried = 250
	requestAgeMax   = 7 * 24 * time.Hour
)

// pruneRequests forgets the oldest request ids when there are too many. The request that started the run, and those whose
// events are still buffered, stay.
func (t *Tx) pruneRequests() {
	if t.requests.len() <= requestsMax {
		return
	}
	excess := t.requests.len() - requestsKept
	known := t.knownRequests()
	for _, id := range oldest(known) {
		if id == t.start.RequestId || (known[id].EventId == 0 && known[id].RunId == "") {
			continue
		}
		if excess--; excess < 0 {
			return
		}
		t.requests.delete(id)
	}
}

func (t *Tx) knownRequests() map[string]*statepb.Request { return maps.Collect(t.requests.all()) }

// oldest are the ids of requests from the oldest to the newest.
func oldest(requests map[string]*statepb.Request) []string {
	ids := sortedKeys(requests)
	slices.SortStableFunc(ids, func(a, b string) int { return requests[a].Time.AsTime().Compare(requests[b].Time.AsTime()) })
	return ids
}

// inheritRequests lets this run know the recent request ids of an earlier one. They carry the id of the run that applied them.
// The ids under which the server itself started runs of the chain are known to nobody else.
func (t *Tx) inheritRequests(requests map[string]*statepb.Request, from *statepb.Start) {
	left := requestsCarried
	for _, id := range slices.Backward(oldest(requests)) {
		r := requests[id]
		if left == 0 || t.now.Sub(r.Time.AsTime()) > requestAgeMax {
			return
		}
		if t.requests.has(id) || (id == from.RequestId && from.ContinuedRunId != "") {
			continue
		}
		r = proto.CloneOf(r)
		if r.RunId == "" {
			r.RunId = from.RunId
		}
		t.requests.put(id, r)
		left--
	}
}
