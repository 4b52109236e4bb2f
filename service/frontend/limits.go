package frontend

import "time"

// Limits on requests. They are those of the reference, so that a program that fits there fits here.
const (
	// idLengthMax bounds, in bytes, what names something: workflow ids, types, task queues, request ids, signal names,
	// identities. They become keys of rows and indexes.
	idLengthMax = 1000
	// buildIDLengthMax bounds a worker's build id, in bytes.
	buildIDLengthMax = 255
	// payloadSizeMax bounds one group of payloads (an input, a result, query arguments …), in bytes; clients read it as
	// blob_size_limit_error of their namespace.
	payloadSizeMax = 2 << 20
	// memoSizeMax bounds a memo, in bytes; clients read it as memo_size_limit_error of their namespace.
	memoSizeMax = 2 << 20
	// linkSizeMax and linksMax bound the links of one request: they are stored in an event each time.
	linkSizeMax = 4000
	linksMax    = 10
	// callbacksMax bounds the completion callbacks of one request: each is a pending delivery of the run.
	callbacksMax            = 32
	callbackURLLengthMax    = 1000
	callbackHeaderSizeMax   = 8 << 10
	fairnessKeyLengthMax    = 64
	weightOverridesMax      = 1000
	reasonLengthMax         = 1000
	reachabilityBuildIDsMax = 5
	// failureTextMax bounds each text of a failure that is kept as the cause of "too large".
	failureTextMax = 4 << 10
	// durationMax is the longest timeout or delay. It is far away, yet safe to add to any date.
	durationMax = 100 * 365 * 24 * time.Hour
	// pollDeadlineMin is the shortest time that a poll must leave the server: matching answers one second before the
	// client's deadline, so that a task is not handed to a client that has stopped waiting.
	pollDeadlineMin = 2 * time.Second
	// errorMessageMax bounds the message of an error, in bytes: it travels in HTTP headers, which clients bound too.
	errorMessageMax = 4000
)

// Defaults of a start.
const (
	workflowTaskTimeoutDefault = 10 * time.Second
	workflowTaskTimeoutMax     = 120 * time.Second

	retryInitialIntervalDefault = time.Second
	retryCoefficientDefault     = 2.0
	// retryMaximumIntervalFactor times the initial interval is the default of the maximum interval.
	retryMaximumIntervalFactor = 100
)

// Names of task queues that users may not take.
const (
	partitionPrefix         = "/_sys/"
	namespaceInternalPrefix = "temporal-sys-per-ns-"
)
