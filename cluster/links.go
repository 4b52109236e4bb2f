package cluster

import (
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/perdure/perdure/persistence"
)

var errLeft = errors.New("cluster: this process has left the cluster")

// links are the connections of this process: one per member, made when first used, closed when the member goes. Their number is
// that of the members.
type links struct {
	creds   credentials.TransportCredentials // nil: no TLS
	options []grpc.DialOption

	mu   sync.Mutex
	byID map[string]*link
	// retired are closed when their timers fire.
	retired map[*link]*time.Timer
	closed  bool
}

// retireAfter is how long calls on the connection to a member that has gone in order, or whose address has a new tenant, may still be
// answered: as long as a process takes to stop.
const retireAfter = 30 * time.Second

func (l *links) get(m persistence.Member) (*link, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errLeft
	}
	if found := l.byID[m.ID]; found != nil {
		return found, nil
	}
	made, err := newLink(m.Address, l.creds, l.options...)
	if err != nil {
		return nil, err
	}
	if l.byID == nil {
		l.byID = map[string]*link{}
	}
	l.byID[m.ID] = made
	return made, nil
}

// cut closes connections, so that the calls that wait there fail now. A connection that is wanted again is made anew.
func (l *links) cut(gone func(id string) bool) {
	l.mu.Lock()
	var cut []*link
	for id, link := range l.byID {
		if gone(id) {
			cut = append(cut, link)
			delete(l.byID, id)
		}
	}
	l.mu.Unlock()
	for _, link := range cut {
		_ = link.conn.Close() // it says only that it has been closed before
	}
}

// retire takes connections out of use, but lets the calls on them end: what has been done is answered, and must not be done again.
func (l *links) retire(gone func(id string) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, old := range l.byID {
		if !gone(id) {
			continue
		}
		delete(l.byID, id)
		if l.retired == nil {
			l.retired = map[*link]*time.Timer{}
		}
		l.retired[old] = time.AfterFunc(retireAfter, func() { l.closeRetired(old) })
	}
}

func (l *links) closeRetired(old *link) {
	l.mu.Lock()
	delete(l.retired, old)
	l.mu.Unlock()
	_ = old.conn.Close() // it says only that it has been closed before
}

func (l *links) close() {
	l.mu.Lock()
	l.closed = true
	retired := l.retired
	l.retired = nil
	l.mu.Unlock()
	for old, timer := range retired {
		timer.Stop()
		_ = old.conn.Close() // as above
	}
	l.cut(func(string) bool { return true })
}
