package history

import "sync/atomic"

// pessimism is how many starts look before they leap after one has met a run of its id.
const pessimism = 32

// optimism decides whether a start expects its id to be new, as most are: its commit then finds out, and a look at the database before
// it is spared. One that was wrong cost its whole group a second try, so a host whose clients use ids again soon returns to looking.
type optimism struct{ wary atomic.Int32 }

func (o *optimism) try() bool {
	return o.wary.Load() <= 0 || o.wary.Add(-1) < 0
}

func (o *optimism) failed() { o.wary.Store(pessimism) }
