package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/perdure/perdure/test/harness"
)

// The commands of the README: a server with the Web UI, a worker, a start, and the result asked for by another process.
func TestReadme(t *testing.T) {
	port, uiPort := harness.FreePort(t), harness.FreePort(t)
	addr := "127.0.0.1:" + port
	dev := harness.Start(t, nil, "perdure", "server", "start-dev", "--port", port, "--ui-port", uiPort, "--http-port", harness.FreePort(t), "--namespace", "orders.a1b2c")
	dev.AwaitReady(addr)
	require.Eventually(t, func() bool { return strings.Contains(dev.Output(), "Web UI      http://127.0.0.1:"+uiPort) }, harness.ReadyMax, 10*time.Millisecond)

	worker := harness.Start(t, nil, "worker", "-address", addr, "-namespace", "orders.a1b2c")
	runExample(t, "start", "-address", addr, "-namespace", "orders.a1b2c", "-id", "readme", "-packing", "10ms")
	require.Contains(t, runExample(t, "result", "-address", addr, "-namespace", "orders.a1b2c", "-id", "readme"), "Tracking:track-readme")
	require.NoError(t, worker.Interrupt())

	// The Web UI is there, and its API sees the closed workflow.
	require.Contains(t, get(t, "http://127.0.0.1:"+uiPort+"/"), "<html")
	require.Contains(t, get(t, "http://127.0.0.1:"+uiPort+"/api/v1/namespaces/orders.a1b2c/workflows"), "WORKFLOW_EXECUTION_STATUS_COMPLETED")

	require.NoError(t, dev.Interrupt(), "Ctrl-C is a clean end")
	require.NotContains(t, dev.Output(), "panic")
}

func runExample(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(harness.Binary(name), args...).CombinedOutput()
	require.NoError(t, err, "%s %v:\n%s", name, args, out)
	return string(out)
}

func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode, "%s: %s", url, body)
	return string(body)
}

func TestHTTPPort(t *testing.T) {
	port, httpPort := harness.FreePort(t), harness.FreePort(t)
	dev := harness.Start(t, nil, "perdure", "server", "start-dev", "--headless", "--port", port, "--http-port", httpPort)
	dev.AwaitReady("127.0.0.1:" + port)
	base := "http://127.0.0.1:" + httpPort
	require.Contains(t, get(t, base+"/healthz/live"), "ok")
	require.Contains(t, get(t, base+"/healthz/ready"), "ok")
	require.Contains(t, get(t, base+"/metrics"), "go_goroutines")
	require.Contains(t, get(t, base+"/debug/pprof/"), "goroutine")
	require.Contains(t, get(t, base+"/api/v1/namespaces/default"), `"default"`)
}

// Mistakes of the caller are one line that says what to do, not a stack trace.
func TestMistakes(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { taken.Close() }) // not deferred: the cases run in parallel, after this function has returned
	_, takenPort, _ := net.SplitHostPort(taken.Addr().String())
	noDatabase := filepath.Join(t.TempDir(), "text")
	require.NoError(t, os.WriteFile(noDatabase, []byte(strings.Repeat("not a database ", 100)), 0o600))

	for name, c := range map[string]struct {
		binary string
		args   []string
		want   string
	}{
		"taken port":       {"perdure", []string{"server", "start-dev", "--headless", "--port", takenPort}, "--port"},
		"taken ui port":    {"perdure", []string{"server", "start-dev", "--port", harness.FreePort(t), "--ui-port", takenPort}, "--ui-port"},
		"no directory":     {"perdure", []string{"server", "start-dev", "--headless", "--port", harness.FreePort(t), "--db-filename", "/no/such/dir/state.db"}, "/no/such/dir"},
		"not a database":   {"perdure", []string{"server", "start-dev", "--headless", "--port", harness.FreePort(t), "--db-filename", noDatabase}, noDatabase},
		"log level":        {"perdure", []string{"server", "start-dev", "--log-level", "loud"}, "--log-level"},
		"unknown flag":     {"perdure", []string{"server", "start-dev", "--nope"}, "--nope"},
		"no database URL":  {"history", nil, "--postgres"},
		"bad database URL": {"perdure", []string{"server", "start", "--postgres", "postgres://nobody@127.0.0.1:1/none", "--grpc-address", harness.FreeAddr(t), "--http-address", ""}, "127.0.0.1:1"},
		"no config file":   {"perdure", []string{"server", "start-dev", "--config", "/no/such.yaml"}, "/no/such.yaml"},
		"half of TLS":      {"perdure", []string{"server", "start-dev", "--tls-cert", "x.pem"}, "--tls-key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := exec.Command(harness.Binary(c.binary), c.args...).CombinedOutput()
			require.Error(t, err)
			require.Contains(t, string(out), c.want)
			require.Equal(t, 1, strings.Count(string(out), "\n"), "one line: %s", out)
		})
	}
}

func TestHelpExplainsEveryFlag(t *testing.T) {
	for _, args := range [][]string{{"perdure", "server", "start-dev"}, {"perdure", "server", "start"}, {"history"}, {"matching"}, {"frontend"}} {
		out, err := exec.Command(harness.Binary(args[0]), append(args[1:], "--help")...).CombinedOutput()
		require.NoError(t, err)
		for _, flag := range []string{"--log-level", "--tls-cert", "--tls-key", "--tls-client-ca", "--config"} {
			require.Contains(t, string(out), flag, "%v", args)
		}
	}
}

// A client with a certificate gets in, one without does not; the Web UI works all the same.
func TestMutualTLS(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t, dir)
	ca.issue("server")
	ca.issue("client")
	port, uiPort := harness.FreePort(t), harness.FreePort(t)
	dev := harness.Start(t, nil, "perdure", "server", "start-dev", "--port", port, "--ui-port", uiPort,
		"--tls-cert", dir+"/server.pem", "--tls-key", dir+"/server.key", "--tls-client-ca", dir+"/ca.pem")
	require.Eventually(t, func() bool { return strings.Contains(dev.Output(), "Ctrl-C stops it") }, harness.ReadyMax, 10*time.Millisecond, "no banner: %s", dev.Output())

	tls := []string{"-address", "127.0.0.1:" + port, "-tls-ca", dir + "/ca.pem", "-tls-server-name", "localhost"}
	withCert := append([]string{"-tls-cert", dir + "/client.pem", "-tls-key", dir + "/client.key"}, tls...)
	worker := harness.Start(t, nil, "worker", withCert...)
	runExample(t, "start", append(withCert, "-id", "tls", "-packing", "10ms")...)
	require.NoError(t, worker.Interrupt())

	out, err := exec.Command(harness.Binary("result"), append(tls, "-id", "tls")...).CombinedOutput()
	require.Error(t, err, "a client without a certificate was let in: %s", out)
	require.Contains(t, get(t, "http://127.0.0.1:"+uiPort+"/api/v1/namespaces/default/workflows"), "COMPLETED")
}

type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, dir string) *authority {
	a := &authority{t: t, dir: dir}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.cert, a.key = template, newKey(t)
	a.write("ca", template, a.key)
	return a
}

func (a *authority) issue(name string) {
	a.write(name, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, newKey(a.t))
}

func (a *authority) write(name string, template *x509.Certificate, key *ecdsa.PrivateKey) {
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	require.NoError(a.t, err)
	raw, err := x509.MarshalECPrivateKey(key)
	require.NoError(a.t, err)
	require.NoError(a.t, os.WriteFile(filepath.Join(a.dir, name+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(a.t, os.WriteFile(filepath.Join(a.dir, name+".key"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw}), 0o600))
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}
