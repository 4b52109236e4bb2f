package frontend

import (
	"context"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/Masterminds/semver/v3"
	"go.temporal.io/api/serviceerror"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// Headers that clients send with every request.
const (
	headerClientName        = "client-name"
	headerClientVersion     = "client-version"
	headerSupportedVersions = "supported-server-versions"
	headerRequestID         = "x-request-id"
	headerCallerType        = "caller-type"
)

// callerOperator is the caller type of tools for operators.
const callerOperator = "operator"

// Names of clients in headerClientName.
const (
	clientGo         = "temporal-go"
	clientJava       = "temporal-java"
	clientPHP        = "temporal-php"
	clientPython     = "temporal-python"
	clientTypeScript = "temporal-typescript"
	clientDotNet     = "temporal-dotnet"
	clientRuby       = "temporal-ruby"
	clientRust       = "temporal-rust"
	clientCLI        = "temporal-cli"
	clientUI         = "temporal-ui"
	clientHTTP       = "temporal-server-http"
)

// clientMajorsEnd is, per client, the first major version that is not supported. Other clients are not checked.
var clientMajorsEnd = map[string]uint64{
	clientGo:         2,
	clientJava:       2,
	clientPHP:        2,
	clientPython:     2,
	clientTypeScript: 2,
	clientDotNet:     2,
	clientRuby:       2,
	clientRust:       2,
	clientCLI:        2,
	clientUI:         3,
}

// header returns the first value of a request's header.
func header(ctx context.Context, name string) string {
	if values := metadata.ValueFromIncomingContext(ctx, name); len(values) > 0 {
		return values[0]
	}
	return ""
}

// versionCheck refuses clients that are known not to work with this server.
type versionCheck struct {
	server *semver.Version
	// last is the last supported-server-versions header that was accepted. Nearly all clients send the same.
	last atomic.Pointer[string]
}

func newVersionCheck() *versionCheck {
	return &versionCheck{server: semver.MustParse(ServerVersion)}
}

func (c *versionCheck) intercept(ctx context.Context, request any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	name, version := header(ctx, headerClientName), header(ctx, headerClientVersion)
	if name != "" && version != "" {
		if err := checkClient(name, version); err != nil {
			return nil, err
		}
		if err := c.checkServer(header(ctx, headerSupportedVersions)); err != nil {
			return nil, err
		}
	}
	return next(ctx, request)
}

func checkClient(name, version string) error {
	end, known := clientMajorsEnd[name]
	if !known {
		return nil
	}
	majorText, _, _ := strings.Cut(version, ".")
	major, err := strconv.ParseUint(majorText, 10, 32)
	if err != nil {
		return serviceerror.NewInvalidArgumentf("The header %s is not a version: %q.", headerClientVersion, cut(version, idLengthMax))
	}
	if major >= end {
		return serviceerror.NewClientVersionNotSupported(version, name, "<"+strconv.FormatUint(end, 10)+".0.0")
	}
	return nil
}

// checkServer checks that this server is one of those that the client supports.
func (c *versionCheck) checkServer(supported string) error {
	if last := c.last.Load(); supported == "" || (last != nil && *last == supported) {
		return nil
	}
	if err := checkLength("The header "+headerSupportedVersions, supported, idLengthMax); err != nil {
		return err
	}
	versions, err := semver.NewConstraint(supported)
	if err != nil {
		return serviceerror.NewInvalidArgumentf("The header %s is not a range of versions: %q.", headerSupportedVersions, supported)
	}
	if !versions.Check(c.server) {
		return serviceerror.NewServerVersionNotSupported(c.server.String(), supported)
	}
	c.last.Store(&supported)
	return nil
}
