// Package deploy holds what is tested of deployment: compose.sh runs docker-compose.yml for real, the tests here hold
// docs/operations.md against the code.
package deploy

import (
	"context"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/perdure/perdure/admin"
	"github.com/perdure/perdure/persistence/sql/postgres/pgtest"
	"github.com/perdure/perdure/test/harness"
)

func TestMain(m *testing.M) {
	os.Exit(harness.Main(m, "cmd/perdure", "cmd/frontend", "cmd/history", "cmd/matching"))
}

func operations(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	return string(text)
}

// logError finds what is logged as an error: the message may be on the line after.
var logError = regexp.MustCompile(`(?:log|logger)\.Error\(\s*"([^"]+)"`)

func TestErrorsAreExplained(t *testing.T) {
	doc, found := operations(t), 0
	for _, dir := range []string{"admin", "cluster", "cmd", "namespace", "persistence", "server", "service", "visibility"} {
		require.NoError(t, filepath.WalkDir(filepath.Join("../..", dir), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			source, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, match := range logError.FindAllSubmatch(source, -1) {
				found++
				require.True(t, strings.Contains(doc, "`"+string(match[1])+"`"), "docs/operations.md does not explain the error %q of %s", match[1], path)
			}
			return nil
		}))
	}
	require.Greater(t, found, 5, "the errors are not found any more")
}

func TestChecksAreExplained(t *testing.T) {
	doc := operations(t)
	for _, check := range admin.Checks() {
		require.True(t, strings.Contains(doc, "`"+string(check)+"`"), "docs/operations.md does not explain %s", check)
	}
}

var flagName = regexp.MustCompile(`(?m)^ +(?:-\w, )?--([a-z-]+)`)

func TestFlagsAreListed(t *testing.T) {
	doc := operations(t)
	for _, args := range [][]string{{"perdure", "server", "start"}, {"frontend"}, {"history"}, {"matching"}} {
		help, err := exec.Command(harness.Binary(args[0]), append(args[1:], "--help")...).CombinedOutput()
		require.NoError(t, err)
		flags := flagName.FindAllSubmatch(help, -1)
		require.Greater(t, len(flags), 5)
		for _, match := range flags {
			if name := string(match[1]); name != "help" && name != "version" {
				require.True(t, strings.Contains(doc, "`--"+name+"`"), "docs/operations.md does not list --%s of %s", name, args)
			}
		}
	}
}

// The metrics that a member of a cluster exports are listed; its health check says that it is well, and then that it is not.
func TestMetricsAndHealth(t *testing.T) {
	address := harness.FreeAddr(t)
	env := []string{"PERDURE_POSTGRES=" + pgtest.URL(t), "PERDURE_HTTP_ADDRESS=" + address}
	server := harness.Start(t, env, "perdure", "server", "start", "--grpc-address", "127.0.0.1:0")
	check := func(binary string) (string, error) {
		cmd := exec.Command(harness.Binary(binary), "healthcheck")
		cmd.Env = append(os.Environ(), env...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	require.Eventually(t, func() bool { _, err := check("perdure"); return err == nil }, harness.ReadyMax, 100*time.Millisecond)
	for _, binary := range []string{"perdure", "frontend", "history", "matching"} {
		out, err := check(binary)
		require.NoError(t, err, out)
		require.Equal(t, "ready: "+address+"\n", out)
	}
	doc, names := operations(t), metricNames(t, address)
	require.Greater(t, len(names), 10)
	for _, name := range names {
		require.True(t, strings.Contains(doc, "`"+name), "docs/operations.md does not list the metric %s", name)
	}
	server.Kill()
	out, err := check("perdure")
	require.Error(t, err)
	require.Contains(t, out, "not ready: "+address+" does not answer")
	require.Equal(t, 1, strings.Count(out, "\n"), "one line")
}

var metricName = regexp.MustCompile(`(?m)^# HELP (perdure_\w+)`)

func metricNames(t *testing.T, address string) (names []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), harness.ReadyMax)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	var text strings.Builder
	require.NoError(t, response.Write(&text))
	for _, match := range metricName.FindAllStringSubmatch(text.String(), -1) {
		names = append(names, match[1])
	}
	return names
}

// The Web UI of a server on PostgreSQL has an address of its own, and a namespace to show.
func TestWebUI(t *testing.T) {
	api, ui := harness.FreeAddr(t), harness.FreeAddr(t)
	server := harness.Start(t, []string{"PERDURE_POSTGRES=" + pgtest.URL(t)}, "perdure", "server", "start",
		"--grpc-address", api, "--http-address", "", "--ui-address", ui, "--namespace", "default")
	server.AwaitReady(api)
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DialContext: (&net.Dialer{}).DialContext}}
	get := func(path string) (int, string) {
		response, err := client.Get("http://" + ui + path)
		if err != nil {
			return 0, err.Error()
		}
		defer response.Body.Close()
		var text strings.Builder
		if err := response.Write(&text); err != nil {
			return 0, err.Error()
		}
		return response.StatusCode, text.String()
	}
	require.Eventually(t, func() bool {
		code, text := get("/")
		return code == http.StatusOK && strings.Contains(strings.ToLower(text), "<html")
	}, harness.ReadyMax, 100*time.Millisecond)
	code, text := get("/api/v1/namespaces/default")
	require.Equal(t, http.StatusOK, code, text)
	require.Contains(t, text, `"default"`)
	require.NoError(t, server.Interrupt(), "the UI does not keep the server from stopping")
}
