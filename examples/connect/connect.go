// Package connect makes the client of the examples: to a development server by default, or with mutual TLS to any other.
package connect

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
)

// Options say which server and namespace to use.
type Options struct {
	Address   string
	Namespace string
	// Cert and Key are this client's certificate, CA the authority that signed the server's, ServerName the name in the
	// server's certificate if it is not the host of Address. All empty: no TLS.
	Cert, Key, CA, ServerName string
}

// Flags registers the options on the command line.
func Flags() *Options {
	o := &Options{}
	flag.StringVar(&o.Address, "address", client.DefaultHostPort, "host:port of the server")
	flag.StringVar(&o.Namespace, "namespace", client.DefaultNamespace, "namespace to work in")
	flag.StringVar(&o.Cert, "tls-cert", "", "this client's certificate (PEM file)")
	flag.StringVar(&o.Key, "tls-key", "", "the certificate's private key (PEM file)")
	flag.StringVar(&o.CA, "tls-ca", "", "authority that signed the server's certificate (PEM file)")
	flag.StringVar(&o.ServerName, "tls-server-name", "", "name in the server's certificate")
	return o
}

// Client connects to the server.
func (o *Options) Client() (client.Client, error) {
	config, err := o.tls()
	if err != nil {
		return nil, err
	}
	return client.Dial(client.Options{
		HostPort:  o.Address,
		Namespace: o.Namespace,
		Logger:    log.NewStructuredLogger(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))),
		ConnectionOptions: client.ConnectionOptions{
			TLS: config,
		},
	})
}

func (o *Options) tls() (*tls.Config, error) {
	if o.Cert == "" && o.CA == "" {
		return nil, nil
	}
	config := &tls.Config{ServerName: o.ServerName, MinVersion: tls.VersionTLS12}
	if o.Cert != "" {
		cert, err := tls.LoadX509KeyPair(o.Cert, o.Key)
		if err != nil {
			return nil, fmt.Errorf("-tls-cert and -tls-key: %w", err)
		}
		config.Certificates = []tls.Certificate{cert}
	}
	if o.CA != "" {
		pem, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, fmt.Errorf("-tls-ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("-tls-ca: no certificate in " + o.CA)
		}
	}
	return config, nil
}
