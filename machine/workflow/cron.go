package workflow

import (
	"errors"
	"time"

	"github.com/robfig/cron/v3"
)

// CheckCron validates a cron schedule: five fields, a descriptor such as @daily, or @every with a duration; CRON_TZ= may come
// first. The empty schedule is valid: no cron.
func CheckCron(spec string) error {
	if spec == "" {
		return nil
	}
	if _, err := cron.ParseStandard(spec); err != nil {
		//lint:ignore ST1005 clients get this very sentence, as recorded
		return errors.New("invalid CronSchedule.")
	}
	return nil
}

// cronWait is the time from now to the schedule's next point, in whole seconds, rounded up; false: it has none. Schedules of
// the @every kind count from the beginning of the last run.
func cronWait(spec string, last, now time.Time) (time.Duration, bool) {
	if spec == "" {
		return 0, false
	}
	schedule, err := cron.ParseStandard(spec)
	if err != nil {
		return 0, false // it was checked at the start: this binary knows less than the one that did
	}
	next := schedule.Next(now.UTC())
	if every, ok := schedule.(cron.ConstantDelaySchedule); ok {
		passed := max(now.Sub(last), 0) / every.Delay
		next = last.Add((passed + 1) * every.Delay)
	}
	if next.IsZero() {
		return 0, false
	}
	return (next.Sub(now) + time.Second - 1).Truncate(time.Second), true
}
