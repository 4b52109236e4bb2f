package certs_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc/credentials"

	"github.com/perdure/perdure/cluster/certs"
	"github.com/perdure/perdure/cluster/certs/certstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// handshake connects both sides and returns the serial number that the client saw.
func handshake(t *testing.T, server *tls.Config, client credentials.TransportCredentials) (int64, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, listener.Close()) }()
	done := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			err = tls.Server(conn, server).HandshakeContext(t.Context())
			_ = conn.Close()
		}
		done <- err
	}()
	conn, err := net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	secure, info, clientErr := client.ClientHandshake(t.Context(), "member", conn)
	if clientErr != nil {
		_ = conn.Close()
		<-done
		return 0, clientErr
	}
	defer func() { _ = secure.Close() }() // the server's side may have been closed before
	if err := <-done; err != nil {
		return 0, err
	}
	return info.(credentials.TLSInfo).State.PeerCertificates[0].SerialNumber.Int64(), nil
}

func load(t *testing.T, files certs.Files) *certs.Certificates {
	c, err := certs.Load(files, nil)
	require.NoError(t, err)
	return c
}

func TestBothSidesMustBeOfTheAuthority(t *testing.T) {
	ours, theirs := certstest.NewAuthority(t), certstest.NewAuthority(t)
	member := load(t, ours.Write(t, t.TempDir(), "member", 7))
	stranger := load(t, theirs.Write(t, t.TempDir(), "member", 8))
	serial, err := handshake(t, member.Server("h2"), member.Client(""))
	require.NoError(t, err)
	require.EqualValues(t, 7, serial)
	_, err = handshake(t, stranger.Server("h2"), member.Client(""))
	require.Error(t, err, "the server is a stranger")
	_, err = handshake(t, member.Server("h2"), stranger.Client(""))
	require.Error(t, err, "the client is a stranger")
	_, err = handshake(t, member.Server("h2"), member.Client("another"))
	require.ErrorContains(t, err, "another", "the certificate is for another name")
	_, err = handshake(t, member.Server("h2"), credentials.NewTLS(&tls.Config{InsecureSkipVerify: true}))
	require.Error(t, err, "the client has no certificate")
}

func TestWithoutAnAuthorityClientsNeedNoCertificate(t *testing.T) {
	files := certstest.NewAuthority(t).Write(t, t.TempDir(), "member", 7)
	ca, err := os.ReadFile(files.CA)
	require.NoError(t, err)
	files.CA = ""
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(ca))
	_, err = handshake(t, load(t, files).Server("h2"), credentials.NewTLS(&tls.Config{RootCAs: pool, ServerName: "member"}))
	require.NoError(t, err)
}

func TestRenewedFilesAreUsed(t *testing.T) {
	dir := t.TempDir()
	member := load(t, certstest.NewAuthority(t).Write(t, dir, "member", 1))
	server, client := member.Server("h2"), member.Client("").Clone()
	_, err := handshake(t, server, client)
	require.NoError(t, err)
	certstest.NewAuthority(t).Write(t, dir, "member", 2) // another authority, too
	require.Eventually(t, func() bool {
		serial, err := handshake(t, server, client)
		return err == nil && serial == 2
	}, 10*time.Second, 50*time.Millisecond)
	// What cannot be read is not used.
	require.NoError(t, os.WriteFile(filepath.Join(dir, "cert.pem"), []byte("half a certif"), 0o600))
	until := time.Now().Add(1500 * time.Millisecond)
	require.Eventually(t, func() bool {
		serial, err := handshake(t, server, client)
		require.NoError(t, err)
		require.EqualValues(t, 2, serial)
		return time.Now().After(until)
	}, 10*time.Second, 50*time.Millisecond)
}

func TestMistakesShowAtOnce(t *testing.T) {
	files := certstest.NewAuthority(t).Write(t, t.TempDir(), "member", 1)
	require.True(t, files.Enabled())
	require.False(t, certs.Files{}.Enabled())
	wrong := files
	wrong.Key = filepath.Join(t.TempDir(), "nothing")
	wrong.Names.Pair = "--tls-cert and --tls-key"
	_, err := certs.Load(wrong, nil)
	require.ErrorContains(t, err, "--tls-cert and --tls-key")
	wrong = files
	wrong.CA = files.Key
	_, err = certs.Load(wrong, nil)
	require.ErrorContains(t, err, "no certificate")
	wrong.CA = wrong.CA + ".gone"
	_, err = certs.Load(wrong, nil)
	require.ErrorContains(t, err, "certificate authority")
}
