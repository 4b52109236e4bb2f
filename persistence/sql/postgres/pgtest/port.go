package pgtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports are drawn from below those that the kernel gives to outgoing connections: while a server is stopped, a client that dials it again
// and again may be given the server's port for its own end, and even reach itself. They are not those of package harness either.
const (
	portMin   = 10_000
	portMax   = 12_000
	portTries = 100
)

// freePort returns a port of this machine on which nobody listens.
func freePort() (int, error) {
	var err error
	for range portTries {
		port := portMin + rand.IntN(portMax-portMin)
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.Join(errors.New("no free port"), err)
}
