package faults

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/perdure/perdure/test/harness"
)

// link stands between processes and one address. It can be cut: then the connections break and new ones are refused, or, in silence,
// nothing passes any more and nobody is told. And it can be slow.
type link struct {
	t       testing.TB
	address string
	delay   atomic.Int64 // of whatever passes, in either direction; nanoseconds

	mu       sync.Mutex
	target   string
	listener net.Listener // nil: connections are refused
	state    linkState
	change   chan struct{} // closed when the state changes
	conns    map[net.Conn]bool
	work     sync.WaitGroup
}

type linkState int

const (
	open linkState = iota
	refusing
	silent
	// stalled delays everything and loses nothing: a disk or a host that hangs for a while.
	stalled
)

func newLink(t testing.TB, target string) *link {
	t.Helper()
	l := &link{t: t, address: harness.FreeAddr(t), target: target, conns: map[net.Conn]bool{}, change: make(chan struct{})}
	l.listen()
	t.Cleanup(func() {
		l.set(refusing)
		l.work.Wait()
	})
	return l
}

func (l *link) listen() {
	listener, err := net.Listen("tcp", l.address)
	require.NoError(l.t, err)
	l.listener = listener
	l.work.Go(func() { l.accept(listener) })
}

// set changes what passes. Connections that were silent break when the link is opened again: what they lost is lost.
func (l *link) set(state linkState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	breaks := state == refusing || l.state == silent
	l.state = state
	close(l.change)
	l.change = make(chan struct{})
	if breaks {
		l.cutLocked()
	}
	switch {
	case state == refusing && l.listener != nil:
		_ = l.listener.Close() // nothing can be done about its failure
		l.listener = nil
	case state != refusing && l.listener == nil:
		l.listen()
	}
}

// lead sends new connections elsewhere.
func (l *link) lead(target string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.target = target
}

// slow makes whatever passes take longer.
func (l *link) slow(by time.Duration) { l.delay.Store(int64(by)) }

// cut breaks the connections of this moment.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cutLocked()
}

func (l *link) cutLocked() {
	for c := range l.conns {
		_ = c.(*net.TCPConn).SetLinger(0) // a reset, whatever is on its way
		_ = c.Close()
		delete(l.conns, c)
	}
}

func (l *link) accept(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		if !l.track(client) {
			continue
		}
		l.work.Go(func() { l.connect(client) })
	}
}

// track notes a connection, or breaks it if nothing may pass.
func (l *link) track(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c] = true
	if l.state == refusing {
		l.cutLocked()
		return false
	}
	return true
}

func (l *link) connect(client net.Conn) {
	defer l.drop(client)
	if !l.pass() {
		return
	}
	l.mu.Lock()
	target := l.target
	l.mu.Unlock()
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer l.drop(server)
	if !l.track(server) {
		return
	}
	var done sync.WaitGroup
	done.Go(func() { l.copy(server, client) })
	done.Go(func() { l.copy(client, server) })
	done.Wait()
}

func (l *link) copy(to, from net.Conn) {
	defer l.drop(to)
	defer l.drop(from)
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil || !l.pass() {
			return
		}
		if by := l.delay.Load(); by > 0 {
			timer := time.NewTimer(time.Duration(by))
			<-timer.C
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// pass waits while the link is silent; false: the connection is of no more use.
func (l *link) pass() bool {
	for {
		l.mu.Lock()
		state, change := l.state, l.change
		l.mu.Unlock()
		switch state {
		case silent:
			<-change
			return false
		case stalled:
			<-change
		default:
			return state == open
		}
	}
}

func (l *link) drop(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
	_ = c.Close()
}

func TestLink(t *testing.T) {
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer echo.Close()
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c) // until the other side ends it
				_ = c.Close()
			}()
		}
	}()
	l := newLink(t, echo.Addr().String())
	talk := func() error {
		c, err := net.Dial("tcp", l.address)
		require.NoError(t, err)
		defer c.Close()
		if _, err := c.Write([]byte("x")); err != nil {
			return err
		}
		_, err = io.ReadFull(c, make([]byte, 1))
		return err
	}
	require.NoError(t, talk())
	l.set(refusing)
	_, err = net.Dial("tcp", l.address)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	l.set(open)
	require.NoError(t, talk())
	connections := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.conns)
	}
	require.Eventually(t, func() bool { return connections() == 0 }, recoverMax, time.Millisecond)
	l.set(silent)
	waiting := make(chan error, 1)
	go func() { waiting <- talk() }()
	require.Eventually(t, func() bool { return connections() > 0 }, recoverMax, time.Millisecond)
	require.Empty(t, waiting)
	l.set(open)
	require.Error(t, <-waiting, "what was silent is lost")
	require.NoError(t, talk())
}
