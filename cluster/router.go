package cluster

import (
	"context"
	"math/rand/v2"
	"time"

	"go.temporal.io/api/serviceerror"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	clusterpb "github.com/perdure/perdure/api/cluster/v1"
	historypb "github.com/perdure/perdure/api/history/v1"
	"github.com/perdure/perdure/persistence"
)

const (
	// retryMax bounds the repetitions of a call that has no deadline: a failover takes less.
	retryMax = 20 * time.Second
	// A repetition waits a random time up to a bound that doubles from retryPauseMin to retryPauseMax. A hand-over takes
	// milliseconds, a failover seconds.
	retryPauseMin = 10 * time.Millisecond
	retryPauseMax = 500 * time.Millisecond
	// hintsMax is how many hints at an owner in a row are followed without a pause.
	hintsMax = 3
)

// router makes calls at the member that they are for. C is the client of one server.
type router[C any] struct {
	m        *Membership
	service  string
	methods  map[string]method
	local    C
	hasLocal bool
	remote   func(grpc.ClientConnInterface) C
	// owner is the member that a request is for.
	owner func(v *View, m method, in proto.Message) (persistence.Member, bool)
	// noOwner, if set, is what a call without an owner ends with at once; else it waits for one.
	noOwner error
}

// Outcomes of one attempt.
type outcome int

const (
	// finished: the result is the caller's.
	finished outcome = iota
	// moved: nothing was done, another member is the owner.
	moved
	// unsent: the member could not be reached, nothing was done.
	unsent
	// lost: the connection was lost, it may have been done.
	lost
	// unavailable: the member answered that it cannot do it now; it may have been done.
	unavailable
)

// reasons of repetitions, as the metric names them.
var reasons = map[outcome]string{moved: "moved", unsent: "unsent", lost: "lost", unavailable: "unavailable"}

type result struct {
	outcome outcome
	err     error
	hint    string // of moved: the owner's address, if known
}

// route is the Route of a generated client.
func (r *router[C]) route(ctx context.Context, name string, in proto.Message, call func(context.Context, C) error) error {
	method := r.methods[name]
	to, known := r.owner(r.m.View(), method, in)
	first := result{outcome: unsent, err: r.errNoOwner()}
	if known {
		first = r.try(ctx, to, method.read, call)
	}
	if first.outcome == finished { // nearly always
		return first.err
	}
	return r.again(ctx, method, in, call, to, first)
}

// again repeats a call for as long as that may help. last is what the member to, if there was one, made of it before.
func (r *router[C]) again(
	ctx context.Context, method method, in proto.Message, call func(context.Context, C) error, to persistence.Member, last result,
) error {
	changed, stop := r.m.Watch()
	defer stop()
	waits := retryWaits{until: time.Now().Add(retryMax)}
	if deadline, ok := ctx.Deadline(); ok {
		waits.until = deadline
	}
	hints := 0
	for {
		if waits.over() || !r.mayRepeat(ctx, method, in, to, last) {
			return last.err
		}
		r.m.metrics.retries.WithLabelValues(r.service, reasons[last.outcome]).Inc()
		next, known := r.hinted(last, to)
		if known && hints < hintsMax {
			hints++
		} else {
			if hints = 0; last.outcome != unavailable && !waits.wait(ctx, changed) {
				return last.err
			}
			next, known = r.owner(r.m.View(), method, in)
		}
		if !known {
			if last = (result{outcome: unsent, err: r.errNoOwner()}); r.noOwner != nil {
				return last.err
			}
			to = persistence.Member{}
			continue
		}
		to = next
		if last = r.try(ctx, to, method.read, call); last.outcome == finished {
			return last.err
		}
	}
}

// mayRepeat decides, and has the view brought up to date where that is what the call needs.
func (r *router[C]) mayRepeat(ctx context.Context, method method, in proto.Message, to persistence.Member, last result) bool {
	switch last.outcome {
	case moved:
		if _, known := r.m.View().at(last.hint); !known {
			r.m.refreshSoon() // the owner is new, or not known yet
		}
		return true
	case unsent, lost:
		switch {
		case to.ID != "":
			r.m.ReportUnreachable(to.ID)
		case r.noOwner != nil:
			return false
		default:
			r.m.refreshSoon()
		}
		return last.outcome == unsent || method.repeatable(in)
	case unavailable:
		// A member that stops or gives something up answers so. If it is to go on being the owner, this is the caller's to know.
		if !method.repeatable(in) || r.m.Refresh(ctx) != nil {
			return false
		}
		owner, known := r.owner(r.m.View(), method, in)
		return known && owner.ID != to.ID
	}
	return false
}

// hinted is the member to which a member that is not the owner sends the caller.
func (r *router[C]) hinted(last result, from persistence.Member) (persistence.Member, bool) {
	if last.outcome != moved || last.hint == "" || last.hint == from.Address {
		return persistence.Member{}, false
	}
	to, ok := r.m.View().at(last.hint)
	return to, ok && runs(to, r.service)
}

// errNoOwner is what a call ends with for which there is no member.
func (r *router[C]) errNoOwner() error {
	if r.noOwner != nil {
		return r.noOwner
	}
	return serviceerror.NewUnavailablef("no %s service is running, or none has been found yet; try again", r.service)
}

// try makes one attempt at one member.
func (r *router[C]) try(ctx context.Context, to persistence.Member, read bool, call func(context.Context, C) error) result {
	if to.ID == r.m.self.ID {
		return r.tryLocal(ctx, read, call)
	}
	link, err := r.m.links.get(to)
	if err != nil {
		return result{outcome: unsent, err: serviceerror.NewUnavailablef("connect to the %s service: %v", r.service, err)}
	}
	var a attempt
	err = call(context.WithValue(ctx, attemptKey{}, &a), r.remote(link.conn))
	if err == nil || a.answered {
		return classify(err)
	}
	switch code := serviceerror.ToStatus(err).Code(); {
	case ctx.Err() != nil, code != codes.Unavailable && code != codes.Canceled:
		return result{err: err}
	case !a.sent:
		return result{outcome: unsent, err: err}
	}
	return result{outcome: lost, err: serviceerror.NewUnavailablef("the connection to the %s service was lost: %v", r.service, err)}
}

func (r *router[C]) tryLocal(ctx context.Context, read bool, call func(context.Context, C) error) result {
	if !r.hasLocal {
		return result{err: serviceerror.NewInternalf("this process announces the %s service but does not run it", r.service)}
	}
	return classify(r.m.guard(read, func() error { return call(ctx, r.local) }))
}

// classify reads the answer of a server.
func classify(err error) result {
	if err == nil {
		return result{}
	}
	st := serviceerror.ToStatus(err)
	if st.Code() != codes.Unavailable {
		return result{err: err}
	}
	for _, detail := range st.Details() {
		switch d := detail.(type) {
		case *historypb.ShardMoved:
			return result{outcome: moved, err: err, hint: d.GetOwnerAddress()}
		case *clusterpb.Moved:
			return result{outcome: moved, err: err, hint: d.GetOwnerAddress()}
		}
	}
	return result{outcome: unavailable, err: err}
}

// retryWaits are the pauses between the attempts of one call.
type retryWaits struct {
	until time.Time
	bound time.Duration
}

// over tells whether the time for repetitions is up.
func (w *retryWaits) over() bool { return time.Until(w.until) <= 0 }

// wait pauses, or until the view changes; false if the time is up.
func (w *retryWaits) wait(ctx context.Context, changed <-chan struct{}) bool {
	w.bound = min(max(2*w.bound, retryPauseMin), retryPauseMax)
	pause := w.bound/2 + rand.N(w.bound/2)
	if time.Until(w.until) <= pause {
		return false
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-changed:
		return true
	case <-ctx.Done():
		return false
	}
}
