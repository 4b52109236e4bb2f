package workflow

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	statepb "github.com/perdure/perdure/api/state/v1"
)

// An effect on another execution that keeps failing becomes a deadline: its part says when it is tried next, and nothing of it
// stays in memory. When it is due it is issued again, as a new effect.

const (
	// effectBackoffInitial doubles with each failure up to effectBackoffMax: another shard's outage is over in seconds or in hours.
	effectBackoffInitial = time.Second
	effectBackoffMax     = 10 * time.Minute
)

// effectBackoff is the wait after so many earlier failures.
func effectBackoff(tries int32) time.Duration {
	wait := effectBackoffInitial
	for range tries {
		if wait *= 2; wait >= effectBackoffMax {
			return effectBackoffMax
		}
	}
	return wait
}

// attempt points into the part of an effect on another execution.
type attempt struct {
	effectID *int64
	nextTry  **timestamppb.Timestamp
	tries    *int32
	external *statepb.External // only of a signal or cancel request
	effect   func() Effect
}

// editAttempt finds the part of an effect for changing.
func (t *Tx) editAttempt(id int64) (attempt, bool) {
	for key, c := range t.children.all() {
		if c.EffectId == id {
			c = t.children.edit(key)
			return attempt{&c.EffectId, &c.NextTry, &c.Tries, nil, func() Effect { return childEffect(c) }}, true
		}
	}
	for key, x := range t.externals.all() {
		if x.EffectId == id {
			x = t.externals.edit(key)
			return attempt{&x.EffectId, &x.NextTry, &x.Tries, x, func() Effect { return SendExternal{ID: x.EffectId, External: x} }}, true
		}
	}
	for key, c := range t.closeEffects.all() {
		if c.EffectId == id {
			c = t.closeEffects.edit(key)
			return attempt{&c.EffectId, &c.NextTry, &c.Tries, nil, func() Effect { return closeEffect(c) }}, true
		}
	}
	return attempt{}, false
}

// EffectFailed puts an effect on another execution off: it could not be carried out now, though it was tried for some time.
// It comes again after the longer of atLeast and a backoff that grows with each failure. A run id says which run of the target
// has answered: from then on a signal or cancel request goes to it alone, so that what it may have applied already is not
// applied by its successor as well.
func (t *Tx) EffectFailed(id int64, atLeast time.Duration, runID string) {
	a, ok := t.editAttempt(id)
	if !ok {
		return
	}
	*a.nextTry = timestamppb.New(t.now.Add(max(atLeast, effectBackoff(*a.tries))))
	*a.tries++
	if a.external != nil && runID != "" && a.external.PinnedRunId == "" {
		a.external.PinnedRunId = runID
	}
	t.write()
}

// fireEffects issues again the effects whose next try is due.
func (t *Tx) fireEffects() {
	for _, id := range t.dueEffects() {
		a, _ := t.editAttempt(id)
		t.settled(id)
		*a.effectID, *a.nextTry = t.nextEffect(), nil
		t.effects = append(t.effects, a.effect())
	}
}

// dueEffects are the ids of effects whose next try has come, in order.
func (t *Tx) dueEffects() []int64 {
	var ids []int64
	add := func(id int64, nextTry *timestamppb.Timestamp) {
		if t.isDue(nextTry) {
			ids = append(ids, id)
		}
	}
	for _, c := range t.children.all() {
		add(c.EffectId, c.NextTry)
	}
	for _, x := range t.externals.all() {
		add(x.EffectId, x.NextTry)
	}
	for _, c := range t.closeEffects.all() {
		add(c.EffectId, c.NextTry)
	}
	return sorted(ids)
}
