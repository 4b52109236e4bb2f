package matching

import "time"

// Config is what an operator may set. The zero value means the defaults.
type Config struct {
	// DispatchRateMax is the system's cap on the tasks per second that a partition dispatches, where neither the API nor a worker
	// has set the queue's rate.
	DispatchRateMax float64
	// Partitions, if set, is the fixed number of partitions of every queue; else queues have as many as they need.
	Partitions int32
	// WaitingPollsMax bounds the polls that wait on one partition.
	WaitingPollsMax int
	// WaitingTasksMax bounds the tasks, and separately the queries, that wait in memory for a first poller on one partition.
	WaitingTasksMax int
	// PartitionsMax bounds the partitions that are loaded at a time.
	PartitionsMax int
}

// The defaults of Config.
const (
	defaultDispatchRateMax = 4000
	defaultWaitingPollsMax = 10_000
	defaultWaitingTasksMax = 1000
	defaultPartitionsMax   = 1_000_000
)

func (c Config) withDefaults() Config {
	if c.DispatchRateMax <= 0 {
		c.DispatchRateMax = defaultDispatchRateMax
	}
	if c.WaitingPollsMax <= 0 {
		c.WaitingPollsMax = defaultWaitingPollsMax
	}
	if c.WaitingTasksMax <= 0 {
		c.WaitingTasksMax = defaultWaitingTasksMax
	}
	if c.PartitionsMax <= 0 {
		c.PartitionsMax = defaultPartitionsMax
	}
	return c
}

// Times that are part of the contract with clients.
const (
	// pollWaitMax ends a long poll with an empty response.
	pollWaitMax = 60 * time.Second
	// deadlineMargin is how long before the caller's deadline a wait ends, so that the answer still arrives.
	deadlineMargin = time.Second
	// stickyPollerGone is how long after its last poll a sticky queue's worker counts as gone.
	stickyPollerGone = 10 * time.Second
	// pollerKept is how long a poller is listed after its last poll.
	pollerKept = 5 * time.Minute
	// idleUnload is how long a partition stays loaded without polls, tasks and waiting callers.
	idleUnload = 5 * time.Minute
	// syncMatchWait is how long a new task waits in memory for a poller before it is stored. Long enough for a busy worker to
	// come back, short against the time a workflow notices.
	syncMatchWait = 200 * time.Millisecond
	// backlogNegligible is the age of the oldest backlog task from which new tasks queue up behind it instead of being matched
	// ahead of it.
	backlogNegligible = 5 * time.Second
)

// Sizes and times of the machinery.
const (
	// sweepInterval is how often idle partitions are looked for, while there are any partitions.
	sweepInterval = time.Minute
	// pollersKeptMax bounds the pollers that a partition lists.
	pollersKeptMax = 1000
	// readPage is the number of backlog rows read at a time.
	readPage = 1000
	// loadedTasksMax bounds the backlog tasks of one level that wait in memory.
	loadedTasksMax = 2000
	// trackedTasksMax bounds the backlog tasks of one level that are known and not yet deleted: those that wait, those being
	// started, and started ones behind a task whose start fails for long.
	trackedTasksMax = 10_000
	// writeBatchMax bounds the tasks of one backlog write, pendingWritesMax those that wait for one.
	writeBatchMax    = 256
	pendingWritesMax = 10_000
	// writeTriesMax is how often a task is written whose write keeps ending with an unknown outcome.
	writeTriesMax = 3
	// ackFlushTasks and ackFlushDelay say when finished rows are deleted: a crash offers at most these again, and history
	// then calls them obsolete. ackRangesMax bounds one deletion.
	ackFlushTasks = 500
	ackFlushDelay = 2 * time.Second
	ackRangesMax  = 100
	// missedRowsMax bounds the rows that are committed during the read of a page and kept until it ends; after more the page is
	// read again.
	missedRowsMax = 1000
	// passesWorthRows is the backlog of a level from which the fairness keys' passes are stored: with less, a new owner that
	// does not know them costs nobody much.
	passesWorthRows = 100
	// wantedKeysMax bounds the limits for which tokens are asked for in one call.
	wantedKeysMax = 1000
	// goodbyeWait and goodbyeTriesMax say for how long a row's earlier owner that gives out tokens may take to stop that.
	goodbyeWait     = 50 * time.Millisecond
	goodbyeTriesMax = 10
	// storeTimeout bounds one call of the store; storeRetryDelay is the pause after a failed one.
	storeTimeout    = 30 * time.Second
	storeRetryDelay = time.Second
	// startTimeout bounds one call that starts a task. startRetryWindow is how long a poll insists on one task before it lets
	// it go; the task then rests, twice as long each time, between startRestMin and startRestMax.
	startTimeout      = 10 * time.Second
	startRetryWindow  = 2 * time.Second
	startRetryWaitMin = 20 * time.Millisecond
	startRetryWaitMax = 500 * time.Millisecond
	startRestMin      = time.Second
	startRestMax      = time.Minute
	// limitWakeMin is the shortest wait for the rate limiter: at high rates tokens are handed out a few at a time.
	limitWakeMin = time.Millisecond
	// stopTimeout bounds the last writes of a stopping service.
	stopTimeout = 5 * time.Second
)
