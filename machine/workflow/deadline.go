package workflow

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
)

// Timeouts, retries, user timers, cron and start delays are all deadlines: there is no other kind of timer.

// NextDeadline is the earliest time at which something of the run is due; zero: never.
func (s *State) NextDeadline() time.Time {
	var d deadline
	for _, c := range s.CloseEffects {
		d.stamp(c.NextTry)
	}
	for _, x := range s.Externals {
		d.stamp(x.NextTry)
	}
	if !s.Open() {
		return d.at
	}
	d.stamp(s.Start.RunDeadline)
	d.stamp(s.Start.ExecutionDeadline)
	d.stamp(s.Core.FirstTaskDue)
	d.time(taskDeadline(s.Task()))
	for id, a := range s.Activities {
		d.time(activityDeadline(a, s.Volatile.Heartbeats[id]))
	}
	for _, timer := range s.Timers {
		d.stamp(timer.Due)
	}
	for _, c := range s.Children {
		d.stamp(c.NextTry)
	}
	return d.at
}

// Fire applies everything that is due.
func (t *Tx) Fire() error {
	t.fireEffects()
	if !t.open() {
		return nil
	}
	if t.runIsDue() {
		return t.timeOutRun()
	}
	t.fireTask()
	t.fireActivities()
	t.fireTimers()
	return nil
}

func (t *Tx) runIsDue() bool {
	return t.isDue(t.start.RunDeadline) || t.isDue(t.start.ExecutionDeadline)
}

func (t *Tx) isDue(at *timestamppb.Timestamp) bool { return at != nil && !t.now.Before(at.AsTime()) }

// deadline is the minimum of times; zero times do not count.
type deadline struct{ at time.Time }

func (d *deadline) stamp(t *timestamppb.Timestamp) {
	if t != nil {
		d.time(t.AsTime())
	}
}

func (d *deadline) time(t time.Time) {
	if !t.IsZero() && (d.at.IsZero() || t.Before(d.at)) {
		d.at = t
	}
}
