package cluster

import (
	"errors"
	"sync"

	"google.golang.org/grpc/credentials"

	"github.com/perdure/perdure/persistence"
)

var errLeft = errors.New("cluster: this process has left the cluster")

// links are the connections of this process: one per member, made when first used, closed when the member goes. Their number is
// that of the members.
type links struct {
	creds credentials.TransportCredentials // nil: no TLS

	mu     sync.Mutex
	byID   map[string]*link
	closed bool
}

func (l *links) get(m persistence.Member) (*link, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errLeft
	}
	if found := l.byID[m.ID]; found != nil {
		return found, nil
	}
	made, err := newLink(m.Address, l.creds)
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

func (l *links) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.cut(func(string) bool { return true })
}
