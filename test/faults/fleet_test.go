package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/perdure/perdure/persistence/sql/postgres/pgtest"
	"github.com/perdure/perdure/test/harness"
)

// recoverMax is how long anything may take until all is well again, on a busy machine. What must be faster says so itself.
const recoverMax = time.Minute

// judge checks how long something took. With -short, which is for machines that may be busy with anything, only what is counted is judged.
func judge(t testing.TB, took, most time.Duration) {
	t.Helper()
	if !testing.Short() {
		require.Less(t, took, most)
	}
}

// fleet is a cluster of two processes of each service.
type fleet struct {
	t         testing.TB
	database  string // its URL, not through any link
	history   []*node
	matching  []*node
	frontends []*node
	resolver  *manual.Resolver
}

// node is a place where a process runs, again and again.
type node struct {
	t       testing.TB
	service string
	args    []string
	env     []string
	http    string
	public  string // of a frontend
	// internal leads from the other processes to this one, database from this one to PostgreSQL.
	internal *link
	database *link
	// databases are the ways to all servers of the database, if it has standbys.
	databases []*link

	mu      sync.Mutex
	process *harness.Process
	past    []*harness.Process
	// binaries is where its binary is, if not where the others are: that of another version.
	binaries string
}

func newFleet(t testing.TB) *fleet { return newFleetOn(t, pgtest.URL(t)) }

// newFleetOn uses a database, and gives every process more arguments.
func newFleetOn(t testing.TB, database string, args ...string) *fleet {
	t.Helper()
	f := makeFleet(t, database, args...)
	f.start()
	return f
}

// makeFleet makes a fleet that has not been started.
func makeFleet(t testing.TB, database string, args ...string) *fleet {
	t.Helper()
	f := &fleet{t: t, database: database}
	for range 2 {
		f.history = append(f.history, f.node("history", args...))
		f.matching = append(f.matching, f.node("matching", args...))
		f.frontends = append(f.frontends, f.node("frontend", args...))
	}
	return f
}

// newPair is a fleet of two processes that run all services each. Both count as frontends.
func newPair(t testing.TB) *fleet {
	t.Helper()
	f := &fleet{t: t, database: pgtest.URL(t)}
	for range 2 {
		internal := harness.FreeAddr(t)
		n := f.node("perdure")
		n.internal = newLink(t, internal)
		n.args = append([]string{"server", "start", "--internal-address", internal, "--advertise-address", n.internal.address}, n.args...)
		f.frontends = append(f.frontends, n)
	}
	f.start()
	return f
}

func (f *fleet) start() {
	f.t.Helper()
	var addresses []resolver.Address
	for _, n := range f.nodes() {
		n.start()
		if n.public != "" {
			addresses = append(addresses, resolver.Address{Addr: n.public})
		}
	}
	f.resolver = manual.NewBuilderWithScheme("fleet")
	f.resolver.InitialState(resolver.State{Addresses: addresses})
	f.awaitReady()
}

func (f *fleet) node(service string, args ...string) *node {
	grpcAddress := harness.FreeAddr(f.t)
	u, err := url.Parse(f.database)
	require.NoError(f.t, err)
	n := &node{t: f.t, service: service, http: harness.FreeAddr(f.t)}
	var hosts []string
	for server := range strings.SplitSeq(u.Host, ",") {
		l := newLink(f.t, server)
		n.databases, hosts = append(n.databases, l), append(hosts, l.address)
	}
	n.database = n.databases[0]
	u.Host = strings.Join(hosts, ",")
	n.env = []string{"PERDURE_POSTGRES=" + u.String()}
	n.args = append([]string{"--grpc-address", grpcAddress, "--http-address", n.http}, args...)
	if service == "frontend" || service == "perdure" {
		n.public = grpcAddress
		n.args = append(n.args, "--namespace", "default")
	} else {
		n.internal = newLink(f.t, grpcAddress)
		n.args = append(n.args, "--advertise-address", n.internal.address)
	}
	return n
}

// nodes are all of them.
func (f *fleet) nodes() []*node {
	return slices.Concat(f.history, f.matching, f.frontends)
}

func (f *fleet) awaitReady() {
	f.t.Helper()
	for _, n := range f.nodes() {
		n.awaitReady()
	}
}

func (n *node) start() {
	n.t.Helper()
	if n.internal != nil {
		n.internal.set(open)
	}
	p := harness.Start(n.t, n.env, filepath.Join(n.binaries, n.service), n.args...)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process != nil {
		n.past = append(n.past, n.process)
	}
	n.process = p
}

func (n *node) current() *harness.Process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.process
}

// kill is kill -9.
func (n *node) kill() {
	n.current().Kill()
	n.gone()
}

// stop is a graceful stop.
func (n *node) stop() {
	n.t.Helper()
	require.NoError(n.t, n.current().Interrupt())
	n.gone()
}

// move gives the node another address. It must not be running.
func (n *node) move() {
	n.t.Helper()
	grpcAddress := harness.FreeAddr(n.t)
	n.internal = newLink(n.t, grpcAddress)
	n.args = []string{"--grpc-address", grpcAddress, "--http-address", n.http, "--advertise-address", n.internal.address}
}

// gone has the address of a process that is gone refuse connections, as it would without the link.
func (n *node) gone() {
	if n.internal != nil {
		n.internal.set(refusing)
	}
}

func (n *node) freeze() { n.current().Signal(syscall.SIGSTOP) }

func (n *node) thaw() { n.current().Signal(syscall.SIGCONT) }

// output is what all processes of the node have logged.
func (n *node) output() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all strings.Builder
	for _, p := range n.past {
		all.WriteString(p.Output())
	}
	all.WriteString(n.process.Output())
	return all.String()
}

// get asks the node's HTTP port.
func (n *node) get(path string) (status int, body string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.http+path, nil)
	if err != nil {
		return 0, "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	return response.StatusCode, string(raw), err
}

func (n *node) ready() bool {
	status, _, err := n.get("/healthz/ready")
	return err == nil && status == http.StatusOK
}

func (n *node) awaitReady() {
	n.t.Helper()
	require.Eventually(n.t, n.ready, recoverMax, 20*time.Millisecond, "%s is not ready", n.service)
}

// errorsLogged lists what the fleet's processes have logged as errors.
func (f *fleet) errorsLogged() []string {
	var found []string
	for _, n := range f.nodes() {
		for line := range strings.Lines(n.output()) {
			var entry struct{ Level, Msg string }
			switch err := json.Unmarshal([]byte(line), &entry); {
			case err != nil:
				found = append(found, n.service+" (no log line): "+line)
			case entry.Level == "error" || entry.Level == "fatal" || entry.Level == "panic":
				found = append(found, n.service+": "+line)
			}
		}
	}
	return found
}

// requireNoPanics looks for what must never be logged, whatever happens.
func (f *fleet) requireNoPanics() {
	f.t.Helper()
	for _, n := range f.nodes() {
		out := n.output()
		for _, word := range []string{"panic", "goroutine 1 [", "DATA RACE"} {
			require.NotContains(f.t, out, word, n.service)
		}
	}
}

// requireSound checks everything that is stored. The fleet must be at rest.
func (f *fleet) requireSound() {
	f.t.Helper()
	out, err := exec.Command(harness.Binary("perdure"), "admin", "fsck", "--postgres", f.database).CombinedOutput()
	require.NoError(f.t, err, "%s", out)
}

// show is the stored state of a workflow, for a person.
func (f *fleet) show(workflowID string) string {
	out, err := exec.Command(harness.Binary("perdure"), "admin", "workflow", "show", "--postgres", f.database,
		"--namespace", "default", "--workflow-id", workflowID).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%s: %v: %s", workflowID, err, out)
	}
	return string(out)
}

// pick returns a node for a number that the caller draws.
func pick(nodes []*node, i int) *node { return nodes[i%len(nodes)] }

func (n *node) String() string { return n.service + " with " + n.http }
