package postgres

import (
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// fault is what a proxy does to the next request that a client sends.
type fault int32

const (
	faultNone    fault = iota
	loseRequest        // the connection breaks before anything of it arrives
	loseAnswer         // it arrives, and the connection breaks when the answer comes back
	freezeInHalf       // half of it arrives, and then nothing more, but the connection stays
)

// proxy stands between a store and its server.
type proxy struct {
	listener net.Listener
	server   string
	next     atomic.Int32 // the fault of the next request, which takes it
	mu       sync.Mutex
	conns    map[net.Conn]bool
	wg       sync.WaitGroup
}

// newProxy returns a proxy and the URL that leads through it.
func newProxy(t *testing.T, server string) (*proxy, string) {
	t.Helper()
	u, err := url.Parse(server)
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{listener: listener, server: u.Host, conns: map[net.Conn]bool{}}
	p.wg.Add(1)
	go p.accept()
	t.Cleanup(func() {
		require.NoError(t, listener.Close())
		p.mu.Lock()
		for conn := range p.conns {
			_ = conn.Close()
		}
		p.mu.Unlock()
		p.wg.Wait()
	})
	u.Host = listener.Addr().String()
	return p, u.String()
}

func (p *proxy) accept() {
	defer p.wg.Done()
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.server)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		p.conns[client], p.conns[server] = true, true
		p.mu.Unlock()
		var current atomic.Int32
		p.wg.Add(2)
		go p.requests(client, server, &current)
		go p.answers(client, server, &current)
	}
}

func (p *proxy) requests(client, server net.Conn, current *atomic.Int32) {
	defer p.wg.Done()
	buf := make([]byte, 1<<20)
	for {
		n, err := client.Read(buf)
		if err != nil {
			if fault(current.Load()) != freezeInHalf { // a frozen client does not even close
				_ = server.Close()
			}
			return
		}
		f := fault(p.next.Swap(int32(faultNone)))
		if f != faultNone {
			current.Store(int32(f))
		}
		switch fault(current.Load()) {
		case loseRequest:
			_ = client.Close()
			_ = server.Close()
			return
		case freezeInHalf:
			if f == freezeInHalf {
				_, _ = server.Write(buf[:n/2])
			}
		default:
			if _, err := server.Write(buf[:n]); err != nil {
				_ = client.Close()
				return
			}
		}
	}
}

func (p *proxy) answers(client, server net.Conn, current *atomic.Int32) {
	defer p.wg.Done()
	buf := make([]byte, 1<<20)
	for {
		n, err := server.Read(buf)
		if err != nil {
			_ = client.Close()
			return
		}
		switch fault(current.Load()) {
		case loseAnswer:
			if buf[n-6] != 'Z' { // not ReadyForQuery: the commit is not yet done
				continue
			}
			_ = client.Close()
			_ = server.Close()
			return
		case freezeInHalf:
		default:
			if _, err := client.Write(buf[:n]); err != nil {
				_ = server.Close()
				return
			}
		}
	}
}
