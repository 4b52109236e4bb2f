package server

import (
	"crypto/tls"

	"go.uber.org/zap"

	"github.com/perdure/perdure/cluster/certs"
)

// ServerTLS is the TLS configuration of a listener. The files are read at once, so that a mistake shows at start, and followed as
// they change.
func ServerTLS(files TLSFiles, log *zap.Logger) (*tls.Config, error) {
	named := certs.Files{Cert: files.Cert, Key: files.Key, CA: files.ClientCA}
	named.Names.Pair, named.Names.CA = "--tls-cert and --tls-key", "--tls-client-ca"
	c, err := certs.Load(named, log)
	if err != nil {
		return nil, err
	}
	return c.Server("h2", "http/1.1"), nil
}
