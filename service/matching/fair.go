package matching

import (
	"math"
	"slices"
)

// Fairness is start-time fair queueing. Each task of a level has a pass, the virtual time of its start, and the lowest pass goes
// first. The passes of one fairness key's tasks are apart by strideUnit / weight, and none is behind the level's virtual time: so a
// key that comes anew has its turn at once, and keys with a backlog share by their weights. The pass is part of a stored task's key.

const (
	// strideUnit is the distance of two tasks of a key of weight 1.
	strideUnit = 1_000_000
	// weightMin and weightMax bound weights, so that strides are whole and do not overflow within any backlog.
	weightMin = 0.001
	weightMax = 1000
	// fairKeysMax bounds the keys whose next pass is known. Of more keys, those that are least ahead are forgotten, which costs
	// the others a task of theirs.
	fairKeysMax = 10_000
	// passesKeptMax bounds the keys whose next pass is stored for the next owner.
	passesKeptMax = 100
)

// fairness hands out the passes of one level.
type fairness struct {
	// now is the level's virtual time: the largest pass that was dispatched.
	now int64
	// next is the pass that a key's next task has at least. Keys that are not ahead of now may be missing.
	next map[string]int64
}

// pass is that of a new task.
func (f *fairness) pass(key string, weight float64) int64 {
	pass := max(f.now, f.next[key])
	if f.next == nil {
		f.next = make(map[string]int64)
	}
	f.next[key] = pass + int64(strideUnit/weight)
	if len(f.next) > fairKeysMax {
		f.forget()
	}
	return pass
}

// dispatched moves the virtual time on.
func (f *fairness) dispatched(pass int64) {
	f.now = max(f.now, pass)
}

// forget drops the keys that are not ahead and, if these are too few, the half that is least so.
func (f *fairness) forget() {
	for key, next := range f.next {
		if next <= f.now {
			delete(f.next, key)
		}
	}
	if len(f.next) <= fairKeysMax/2 {
		return
	}
	passes := make([]int64, 0, len(f.next))
	for _, next := range f.next {
		passes = append(passes, next)
	}
	slices.Sort(passes)
	limit := passes[len(passes)/2]
	for key, next := range f.next {
		if next <= limit {
			delete(f.next, key)
		}
	}
}

// ahead is the keys that are most ahead, at most limit.
func (f *fairness) ahead(limit int) map[string]int64 {
	type entry struct {
		key  string
		next int64
	}
	var all []entry
	for key, next := range f.next {
		if next > f.now+strideUnit {
			all = append(all, entry{key, next})
		}
	}
	if len(all) > limit {
		slices.SortFunc(all, func(a, b entry) int {
			switch {
			case a.next > b.next:
				return -1
			case a.next < b.next:
				return 1
			}
			return 0
		})
		all = all[:limit]
	}
	ahead := make(map[string]int64, len(all))
	for _, e := range all {
		ahead[e.key] = e.next
	}
	return ahead
}

// restore sets the state that an earlier owner left.
func (f *fairness) restore(now int64, next map[string]int64) {
	f.now = max(f.now, now)
	for key, pass := range next {
		if f.next == nil {
			f.next = make(map[string]int64)
		}
		f.next[key] = max(f.next[key], pass)
	}
}

// weightOf is the weight that counts: the queue's own for the key, else the task's, else 1.
func weightOf(overrides map[string]float32, key string, ofTask float32) float64 {
	weight, set := overrides[key]
	if !set {
		weight = ofTask
	}
	if !(weight > 0) {
		return 1
	}
	return math.Min(math.Max(float64(weight), weightMin), weightMax)
}
