package workflow

import (
	"cmp"
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
	// requestAgeMax is how long a request id is remembered. No client and no effect tries for so long without being answered once.
	requestAgeMax = 7 * 24 * time.Hour
)

// pruneRequests forgets the oldest request ids when there are too many. The request that started the run, and those whose
// events are still buffered, stay.
func (t *Tx) pruneRequests() {
	excess := t.requests.len() - requestsKept
	if t.requests.len() <= requestsMax {
		return
	}
	for _, id := range t.oldestRequests() {
		if r, _ := t.requests.get(id); id == t.start.RequestId || (r.EventId == 0 && r.RunId == "") {
			continue
		}
		if excess--; excess < 0 {
			return
		}
		t.requests.delete(id)
	}
}

// oldestRequests are the remembered ids from the oldest to the newest.
func (t *Tx) oldestRequests() []string {
	times := map[string]time.Time{}
	for id, r := range t.requests.all() {
		times[id] = r.Time.AsTime()
	}
	ids := sortedKeys(times)
	slices.SortStableFunc(ids, func(a, b string) int { return cmp.Or(times[a].Compare(times[b]), cmp.Compare(a, b)) })
	return ids
}

// carryRequests lets the next run know the recent request ids of this one. There they carry the id of the run that applied them.
func (t *Tx) carryRequests(next *Tx) {
	for id, r := range t.requests.all() {
		if t.now.Sub(r.Time.AsTime()) > requestAgeMax || next.requests.has(id) {
			continue
		}
		next.requests.put(id, carried(r, t.start.RunId))
	}
}

func carried(r *statepb.Request, runID string) *statepb.Request {
	r = proto.CloneOf(r)
	if r.RunId == "" {
		r.RunId = runID
	}
	return r
}
