// Package certs is TLS from files that are followed as they change: a renewed certificate or authority is used from the next
// handshake on, on both sides of a connection. If new files cannot be used, the former ones stay in use and the log says why.
package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc/credentials"
)

// checkInterval is how often a handshake looks whether the files have changed.
const checkInterval = time.Second

// Files name PEM files.
type Files struct {
	Cert string // this side's certificate, with its chain
	Key  string // its private key
	CA   string // authorities that the other side's certificate must come from; on a server empty: clients need none
	// Names are how errors call the files (Cert and Key together, and CA): the flags that set them, say.
	Names struct{ Pair, CA string }
}

// Enabled tells whether any file is set.
func (f Files) Enabled() bool { return f.Cert != "" || f.Key != "" || f.CA != "" }

// Certificates are loaded files.
type Certificates struct {
	files Files
	log   *zap.Logger

	mu      sync.Mutex
	checked time.Time
	stamp   string
	loaded  loaded
}

type loaded struct {
	pair tls.Certificate
	ca   *x509.CertPool // nil: none
}

// Load reads the files, so that a mistake shows at once.
func Load(files Files, log *zap.Logger) (*Certificates, error) {
	if files.Names.Pair == "" {
		files.Names.Pair = "certificate and key"
	}
	if files.Names.CA == "" {
		files.Names.CA = "certificate authority"
	}
	if log == nil {
		log = zap.NewNop()
	}
	c := &Certificates{files: files, log: log, checked: time.Now()}
	c.stamp = c.fileStamp()
	var err error
	c.loaded, err = c.load()
	return c, err
}

func (c *Certificates) current() loaded {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.checked) < checkInterval {
		return c.loaded
	}
	c.checked = time.Now()
	stamp := c.fileStamp()
	if stamp == c.stamp {
		return c.loaded
	}
	fresh, err := c.load()
	if err != nil {
		c.log.Error("TLS files have changed but cannot be used; the former ones stay in use", zap.Error(err))
		return c.loaded
	}
	c.log.Info("TLS files reloaded", zap.String("certificate", c.files.Cert))
	c.loaded, c.stamp = fresh, stamp
	return c.loaded
}

// fileStamp changes when any of the files does.
func (c *Certificates) fileStamp() (stamp string) {
	for _, path := range []string{c.files.Cert, c.files.Key, c.files.CA} {
		if info, err := os.Stat(path); err == nil {
			stamp += fmt.Sprintf("%s %d %d\n", path, info.Size(), info.ModTime().UnixNano())
		}
	}
	return stamp
}

func (c *Certificates) load() (loaded, error) {
	pair, err := tls.LoadX509KeyPair(c.files.Cert, c.files.Key)
	if err != nil {
		return loaded{}, fmt.Errorf("%s: %w", c.files.Names.Pair, err)
	}
	if c.files.CA == "" {
		return loaded{pair: pair}, nil
	}
	pem, err := os.ReadFile(c.files.CA)
	if err != nil {
		return loaded{}, fmt.Errorf("%s: %w", c.files.Names.CA, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return loaded{}, errors.New(c.files.Names.CA + ": no certificate (PEM) in " + c.files.CA)
	}
	return loaded{pair: pair, ca: pool}, nil
}

// Server is the configuration of a listener that offers the protocols. With authorities, clients must have a certificate of theirs.
func (c *Certificates) Server(protocols ...string) *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: protocols}
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		now := c.current()
		config := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: protocols, Certificates: []tls.Certificate{now.pair}}
		if now.ca != nil {
			config.ClientCAs, config.ClientAuth = now.ca, tls.RequireAndVerifyClientCert
		}
		return config, nil
	}
	return config
}

// Client is the client's side for gRPC: it shows the certificate and takes only servers that the authorities vouch for. A
// certificate must be for serverName or, if that is empty, for the host of the address that was dialed.
func (c *Certificates) Client(serverName string) credentials.TransportCredentials {
	return &client{TransportCredentials: credentials.NewTLS(c.client(serverName)), certs: c, serverName: serverName}
}

func (c *Certificates) client(serverName string) *tls.Config {
	now := c.current()
	return &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: serverName, RootCAs: now.ca, Certificates: []tls.Certificate{now.pair},
	}
}

// client makes its configuration anew for each handshake: the authorities of a tls.Config cannot change.
type client struct {
	credentials.TransportCredentials
	certs      *Certificates
	serverName string
}

func (t *client) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if t.serverName != "" {
		authority = t.serverName
	}
	return credentials.NewTLS(t.certs.client(t.serverName)).ClientHandshake(ctx, authority, conn)
}

func (t *client) Clone() credentials.TransportCredentials { return t.certs.Client(t.serverName) }
