package server

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAdvertisedAddress(t *testing.T) {
	listener := func(host string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(host), Port: 7234} }
	advertised := func(o Options, l net.Addr) string {
		address, err := o.advertised(l)
		require.NoError(t, err)
		return address
	}
	require.Equal(t, "10.1.2.3:7234", advertised(Options{}, listener("10.1.2.3")))
	require.Equal(t, "history-0.svc:9000", advertised(Options{AdvertiseAddress: "history-0.svc:9000"}, listener("0.0.0.0")))
	for _, all := range []string{"0.0.0.0", "::"} {
		host, port, err := net.SplitHostPort(advertised(Options{Postgres: "postgres://u@127.0.0.1:5432/db"}, listener(all)))
		require.NoError(t, err)
		require.Equal(t, "7234", port)
		require.False(t, net.ParseIP(host).IsUnspecified(), host)
	}
	for given, want := range map[string]string{
		"history-0.svc":      "history-0.svc:7234", // the listener's port
		"history-0.svc:":     "history-0.svc:7234",
		"10.1.2.3":           "10.1.2.3:7234",
		"10.1.2.3:9000":      "10.1.2.3:9000",
		"fd00::1":            "[fd00::1]:7234",
		"[fd00::1]":          "[fd00::1]:7234",
		"[fd00::1]:9000":     "[fd00::1]:9000",
		"history-0.svc:9000": "history-0.svc:9000",
	} {
		require.Equal(t, want, advertised(Options{AdvertiseAddress: given}, listener("0.0.0.0")), given)
	}
	_, err := (&Options{AdvertiseAddress: "a:b:c"}).advertised(listener("0.0.0.0"))
	require.ErrorContains(t, err, "--advertise-address")
}

func TestInternalTLSIsMutual(t *testing.T) {
	o := Options{LogLevel: "info", LogFormat: "json", InternalTLS: InternalTLSFiles{Cert: "c", Key: "k"}}
	require.ErrorContains(t, o.Validate(), "--internal-tls-ca")
	o.InternalTLS.CA = "a"
	require.NoError(t, o.Validate())
}
