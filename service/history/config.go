package history

import "time"

// Config is what an operator may set. The zero value means the defaults.
type Config struct {
	// CacheBytes is how much memory cached runs may take, roughly. Runs that cannot be forgotten yet come on top.
	CacheBytes int64
	// EffectsMax bounds the effects that are being carried out at a time.
	EffectsMax int
}

const (
	defaultCacheBytes = 64 << 20
	defaultEffectsMax = 10_000
)

func (c Config) withDefaults() Config {
	if c.CacheBytes <= 0 {
		c.CacheBytes = defaultCacheBytes
	}
	if c.EffectsMax <= 0 {
		c.EffectsMax = defaultEffectsMax
	}
	return c
}

// Times and sizes of the machinery.
const (
	// commitTimeout bounds one commit, retries of the store included. Beyond it the outcome counts as unknown.
	commitTimeout = 30 * time.Second
	// lockWaitersMax bounds the calls that wait for one execution; more of them could only time out.
	lockWaitersMax = 1000
	// snapshotRows and snapshotBytes say when a run's log is folded: a load reads at most so many rows, or so many bytes more
	// than the snapshot itself.
	snapshotRows  = 64
	snapshotBytes = 32 << 10
	// recentEventsMax and recentBytesMax bound the events that a cached run keeps, so that the polls of a busy run need no read.
	recentEventsMax = 512
	recentBytesMax  = 256 << 10
	// runsPerKeyMax is how many runs of a key are searched for a start's request id.
	runsPerKeyMax = 10
	// timerHorizon is how far ahead stored wake-ups are read into memory, timerRefresh how long before its end the next is read.
	timerHorizon = 5 * time.Minute
	timerRefresh = time.Minute
	// timersFiringMax bounds the wake-ups that are being carried out at a time.
	timersFiringMax = 256
	// timerRetry is when a wake-up whose commit failed is tried again.
	timerRetry = time.Second
	// quietAfter is how long a run must be at rest before its effects flag is cleared, clearGroup how many are cleared at a time.
	quietAfter = 5 * time.Second
	clearGroup = 256
	// scanPage is the page of scans over shards, recoverParallel the loads that run at a time for them.
	scanPage        = 500
	recoverParallel = 32
	// retryMin and retryMax bound the jittered pauses between tries of anything that must succeed in the end.
	retryMin = 50 * time.Millisecond
	retryMax = 10 * time.Second
	// dispatchTimeout bounds one offer of a task to matching: a sticky queue holds the task until its worker comes.
	dispatchTimeout = 30 * time.Second
	// clockTolerance is the error of a measurement of the database's clock on a busy network.
	clockTolerance = 50 * time.Millisecond
	// takeRetryMax bounds the pauses between tries to take held shards: their callers wait.
	takeRetryMax = time.Second
	// stopTimeout bounds what a stopping service still writes.
	stopTimeout = 5 * time.Second
)

// Times and sizes that clients see.
const (
	// historyPageMax and historyPageBytes bound a page of events.
	historyPageMax   = 256
	historyPageBytes = 2 << 20
	// longPollWait is how long a read of the history, or a wait for an update, goes on without news.
	longPollWait = 20 * time.Second
	// deadlineMargin is how long before the caller's deadline a wait ends, so that its answer still arrives. Of a short deadline
	// it is one part in deadlineParts.
	deadlineMargin = time.Second
	deadlineParts  = 4
	// queryWaitMax bounds the wait of a query whose caller has no deadline.
	queryWaitMax = time.Minute
	// bufferedQueriesMax is how many queries of one run may wait for its workflow task.
	bufferedQueriesMax = 1
	// queryAttemptsMax is the attempt of a failing workflow task from which queries are refused.
	queryAttemptsMax = 3
)
