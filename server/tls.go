package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"
)

// tlsCheckInterval is how often a handshake looks whether the files have changed.
const tlsCheckInterval = time.Second

// tlsFiles serves TLS from files and follows them: a renewed certificate is used from the next handshake on. If the new files
// cannot be used, the old ones stay in use and the log says why.
type tlsFiles struct {
	files TLSFiles
	log   *zap.Logger

	mu      sync.Mutex
	checked time.Time
	stamp   string
	config  *tls.Config
}

// ServerTLS is the TLS configuration of a listener. The files are read at once, so that a mistake shows at start.
func ServerTLS(files TLSFiles, log *zap.Logger) (*tls.Config, error) {
	f := &tlsFiles{files: files, log: log}
	config, err := f.load()
	if err != nil {
		return nil, err
	}
	f.config, f.stamp, f.checked = config, f.fileStamp(), time.Now()
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		NextProtos:         []string{"h2", "http/1.1"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return f.current(), nil },
	}, nil
}

func (f *tlsFiles) current() *tls.Config {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.checked) < tlsCheckInterval {
		return f.config
	}
	f.checked = time.Now()
	stamp := f.fileStamp()
	if stamp == f.stamp {
		return f.config
	}
	config, err := f.load()
	if err != nil {
		f.log.Error("TLS files have changed but cannot be used; the former ones stay in use", zap.Error(err))
		return f.config
	}
	f.log.Info("TLS files reloaded", zap.String("certificate", f.files.Cert))
	f.config, f.stamp = config, stamp
	return f.config
}

// fileStamp changes when any of the files does.
func (f *tlsFiles) fileStamp() (stamp string) {
	for _, path := range []string{f.files.Cert, f.files.Key, f.files.ClientCA} {
		if info, err := os.Stat(path); err == nil {
			stamp += fmt.Sprintf("%s %d %d\n", path, info.Size(), info.ModTime().UnixNano())
		}
	}
	return stamp
}

func (f *tlsFiles) load() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(f.files.Cert, f.files.Key)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert and --tls-key: %w", err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}}
	if f.files.ClientCA == "" {
		return config, nil
	}
	pem, err := os.ReadFile(f.files.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("--tls-client-ca: %w", err)
	}
	config.ClientCAs = x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, errors.New("--tls-client-ca: no certificate (PEM) in " + f.files.ClientCA)
	}
	config.ClientAuth = tls.RequireAndVerifyClientCert
	return config, nil
}
