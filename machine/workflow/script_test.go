package workflow

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	historypb "go.temporal.io/api/history/v1"

	tokenpb "github.com/perdure/perdure/api/token/v1"
)

// The scripts in testdata hold inputs and what follows from them: events, changed parts, effects. A file is blocks with a blank
// line between them: comments, a line with an input, indented lines that belong to it, "----", the output. Verbs are in
// scriptVerbs and scriptCommands; files named script_<topic>_test.go add theirs. Times are counted from the script's start.
//
//	go test ./machine/workflow -run Scripts -rewrite
var rewrite = flag.Bool("rewrite", false, "write the outputs of the scripts in testdata instead of comparing them")

func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { runScript(t, file) })
	}
}

func runScript(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	s := newScript(t)
	var out strings.Builder
	for i, block := range strings.Split(strings.TrimSpace(string(text)), "\n\n") {
		if i > 0 {
			out.WriteString("\n")
		}
		input, _, _ := strings.Cut(block, "\n----")
		out.WriteString(input + "\n")
		if parseInput(input).verb != "" {
			out.WriteString("----\n" + s.step(input))
		}
	}
	if *rewrite {
		require.NoError(t, os.WriteFile(file, []byte(out.String()), 0o644))
		return
	}
	require.Equal(t, string(text), out.String(), "run with -rewrite and look at the difference")
}

var scriptEpoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// script is one run (and those that follow it) as a script drives it.
type script struct {
	t     *testing.T
	now   time.Time
	env   Env
	state *State
	rows  [][]byte // of the present run
	// events is the history of the present run.
	events []*historypb.HistoryEvent
	tokens map[string]*tokenpb.Task
	// successor is the run that the last transition made, with its first row.
	successor       *State
	successorRows   [][]byte
	successorEvents []*historypb.HistoryEvent
	runs            int
	out             strings.Builder
}

func newScript(t *testing.T) *script {
	s := &script{t: t, now: scriptEpoch, tokens: map[string]*tokenpb.Task{}}
	s.env = Env{
		Namespace:             "default",
		NamespaceID:           func(name string) (string, error) { return name + "-id", nil },
		CheckSearchAttributes: checkTestAttributes,
		EagerActivities:       true,
	}
	return s
}

func checkTestAttributes(a *commonpb.SearchAttributes) (*commonpb.SearchAttributes, error) {
	if _, unknown := a.GetIndexedFields()["unknown"]; unknown {
		return nil, fmt.Errorf("no search attribute unknown is registered")
	}
	return a, nil
}

// input is a parsed line: words, and the lines that belong to it.
type input struct {
	verb  string
	words []string
	named map[string]string
	lines []string
}

func parseInput(text string) input {
	in := input{named: map[string]string{}}
	for _, line := range strings.Split(text, "\n") {
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "  "):
			in.lines = append(in.lines, strings.TrimSpace(line))
		default:
			in.read(line)
		}
	}
	return in
}

func (in *input) read(line string) {
	for i, word := range strings.Fields(line) {
		name, value, isNamed := strings.Cut(word, "=")
		switch {
		case i == 0:
			in.verb = word
		case isNamed:
			in.named[name] = value
		default:
			in.words = append(in.words, word)
		}
	}
}

// word is the i-th word behind the verb; "": there is none.
func (in input) word(i int) string {
	if i < len(in.words) {
		return in.words[i]
	}
	return ""
}

func (in input) is(word string) bool { return slices.Contains(in.words, word) }

func (in input) or(name, fallback string) string {
	if v, ok := in.named[name]; ok {
		return v
	}
	return fallback
}

func (in input) number(name string, fallback int64) int64 {
	v, ok := in.named[name]
	if !ok {
		return fallback
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		panic(fmt.Sprintf("%s=%s is no number", name, v))
	}
	return n
}

func (in input) duration(name string) time.Duration {
	v, ok := in.named[name]
	if !ok {
		return 0
	}
	return parseDuration(v)
}

func parseDuration(text string) time.Duration {
	d, err := time.ParseDuration(strings.TrimPrefix(text, "+"))
	if err != nil {
		panic(err)
	}
	return d
}

// step applies one input and returns what it printed.
func (s *script) step(text string) string {
	s.out.Reset()
	in := parseInput(text)
	verb, ok := scriptVerbs[in.verb]
	if !ok {
		s.t.Fatalf("no verb %q; there are %v", in.verb, slices.Sorted(maps.Keys(scriptVerbs)))
	}
	verb(s, in)
	if s.out.Len() == 0 {
		s.out.WriteString("ok\n")
	}
	return s.out.String()
}

func (s *script) printf(format string, args ...any) {
	fmt.Fprintf(&s.out, format+"\n", args...)
}

// apply runs a transition of the present run, checks the invariants and prints what came of it. Without an error it is applied.
func (s *script) apply(transition func(tx *Tx) error) {
	if s.state == nil {
		s.t.Fatal("the script has not started a run")
	}
	env := s.env
	env.NewRunID = fmt.Sprintf("run-%d", s.runs+1)
	if len(s.events) > 0 {
		env.StartEvent = s.events[0]
	}
	tx := Begin(s.state, s.now, env)
	if err := transition(tx); err != nil {
		s.printf("error %s", describeError(err))
		return
	}
	s.commit(tx)
}

// commit finishes and applies a transition.
func (s *script) commit(tx *Tx) {
	before := s.state
	result, err := tx.Finish()
	require.NoError(s.t, err)
	after, err := tx.After().Snapshot()
	require.NoError(s.t, err)
	s.state = tx.Apply()
	snapshot, err := s.state.Snapshot()
	require.NoError(s.t, err)
	if result.Durable {
		require.Equal(s.t, after, snapshot, "After is not what Apply made")
		s.rows = append(s.rows, result.Parts)
		s.events = append(s.events, result.Events...)
	}
	checkInvariants(s.t, s.state, s.rows, s.events)
	s.printResult(result, before == nil)
	if result.Successor != nil {
		s.openSuccessor(result.Successor)
	}
}

func (s *script) openSuccessor(tx *Tx) {
	result, err := tx.Finish()
	require.NoError(s.t, err)
	s.successor = tx.Apply()
	s.successorRows, s.successorEvents = [][]byte{result.Parts}, result.Events
	s.runs++
	checkInvariants(s.t, s.successor, s.successorRows, s.successorEvents)
	s.printf("successor %s:", s.successor.Start.RunId)
	s.printResult(result, true)
}

// follow goes on with the run that the last transition made.
func (s *script) follow() {
	s.state, s.rows, s.events = s.successor, s.successorRows, s.successorEvents
	s.successor = nil
}

func (s *script) printResult(r *Result, opened bool) {
	if !r.Durable {
		s.printf("volatile")
	}
	for _, e := range r.Events {
		s.printf("%s", s.renderEvent(e))
	}
	if r.Durable {
		s.printf("parts: %s", strings.Join(partKeys(s.t, r.Parts), " "))
	}
	for _, e := range r.Effects {
		s.printf("effect %s", s.renderEffect(e))
	}
	for _, u := range r.Updates {
		s.printf("update %s", renderUpdate(u))
	}
	if r.InlineTask != nil {
		s.printf("inline task: scheduled=%d started=%d", r.InlineTask.ScheduledEventId, r.InlineTask.StartedEventId)
	}
	if r.Closed {
		s.printf("closed")
	}
	if r.Visibility && !r.Closed && !opened {
		s.printf("visibility changed")
	}
}

// printNext prints when something is due next.
func (s *script) printNext() {
	if next := s.state.NextDeadline(); next.IsZero() {
		s.printf("next: never")
	} else {
		s.printf("next: %s", since(next))
	}
}

func since(at time.Time) string { return "+" + at.Sub(scriptEpoch).String() }
