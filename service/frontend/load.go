package frontend

import (
	"fmt"
	"time"
)

// LoadLimits bound what one process takes on. Each is a limit of one process; a zero is no limit. Calls between services are not counted.
//
// A call that waits for others (a poll, a query, an update, a read of the history that waits for news) counts when it arrives, and while
// it waits only as one of the waiting.
type LoadLimits struct {
	// RPS and NamespaceRPS are calls per second of all namespaces and of one.
	RPS          float64
	NamespaceRPS float64
	// NamespaceVisibilityRPS are lists and counts of one namespace per second.
	NamespaceVisibilityRPS float64
	// NamespaceDeploymentReadRPS are reads of worker deployments of one namespace per second.
	NamespaceDeploymentReadRPS float64
	// NamespaceChangeRPS are changes of namespaces per second: registrations, updates, deletions, search attributes. One namespace may
	// take namespaceChangeShare of them.
	NamespaceChangeRPS float64
	// BurstRatio is how many seconds' worth of calls may come at once after a quiet time; 0: BurstRatioDefault.
	BurstRatio float64
	// InFlight and InFlightBytes are calls that are being worked on, and the bytes of all requests in memory. One namespace may have
	// namespaceInFlightShare of the calls.
	InFlight      int
	InFlightBytes int64
	// Waiting and NamespaceWaiting are calls that wait for others, of all namespaces and of one.
	Waiting          int
	NamespaceWaiting int
}

// BurstRatioDefault lets an idle namespace make two seconds' worth of calls at once.
const BurstRatioDefault = 2

const (
	// namespaceChangeShare and namespaceChangeBurst: one change of a namespace per second while all together make 20, and ten at once, as a
	// deployment script makes them.
	namespaceChangeShare = 1.0 / 20
	namespaceChangeBurst = 10
	// namespaceInFlightShare keeps one namespace, whose calls have become slow, from taking the place of all others.
	namespaceInFlightShare = 0.5
	// operatorShare of a rate is kept beside it for operators' tools, which are needed most when there is too much of everything else.
	operatorShare = 0.2
	// loadSweepEvery is how often what is known of idle namespaces is forgotten.
	loadSweepEvery = time.Minute
)

// DefaultLoadLimits are those of a server that others depend on. The rates are ten times those of the reference, because a call costs a
// tenth; how much a machine can really take shows in the calls that are in flight, which bound its memory in any case. One namespace gets
// half of a process.
func DefaultLoadLimits() LoadLimits {
	return LoadLimits{
		RPS:                        24_000,
		NamespaceRPS:               12_000,
		NamespaceVisibilityRPS:     100,
		NamespaceDeploymentReadRPS: 50,
		NamespaceChangeRPS:         20,
		BurstRatio:                 BurstRatioDefault,
		InFlight:                   10_000,
		InFlightBytes:              256 << 20,
		Waiting:                    100_000,
		NamespaceWaiting:           10_000,
	}
}

// DevLoadLimits are those of a server for one developer: nothing is refused before the memory of a laptop is in danger.
func DevLoadLimits() LoadLimits {
	return LoadLimits{BurstRatio: BurstRatioDefault, InFlight: 20_000, InFlightBytes: 1 << 30}
}

// Validate refuses what is no limit.
func (l LoadLimits) Validate() error {
	for name, v := range map[string]float64{
		"rps": l.RPS, "namespace-rps": l.NamespaceRPS, "namespace-visibility-rps": l.NamespaceVisibilityRPS,
		"namespace-deployment-read-rps": l.NamespaceDeploymentReadRPS, "namespace-change-rps": l.NamespaceChangeRPS,
		"burst-ratio": l.BurstRatio, "in-flight": float64(l.InFlight), "in-flight-bytes": float64(l.InFlightBytes),
		"waiting": float64(l.Waiting), "namespace-waiting": float64(l.NamespaceWaiting),
	} {
		if !(v >= 0) { // NaN neither
			return fmt.Errorf("--limit-%s is %v; it must be positive, or 0 for no limit", name, v)
		}
	}
	return nil
}
