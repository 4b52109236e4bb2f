package workflow

import (
	"strings"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
)

func init() {
	scriptVerbs["reset"] = scriptReset
}

// reset EVENT [exclude=signal,update,cancel] [reason=] [lossy]: terminates the run if it is open, and goes on with the reset
// run. Lossy: rows without events have been deleted.
func scriptReset(s *script, in input) {
	finish := in.number("event", 0)
	if err := s.state.CheckResetPoint(finish); err != nil {
		s.printf("error %s", describeError(err))
		return
	}
	rows, base := rowsBefore(s.t, s.rows, finish, in.is("lossy"))
	if base == nil {
		s.printf("error %s", describeError(ErrResetPoint(finish)))
		return
	}
	copied := base.Core.NextEventId - 1
	if _, err := Reset(Resetting{Between: s.events[copied : finish-1]}, base, s.now, s.env); err != nil {
		s.printf("error %s", describeError(err))
		return
	}
	between, events := s.events[copied:finish-1], s.events[:copied:copied]
	s.runs++
	if s.state.Open() {
		s.apply(func(tx *Tx) error { return tx.CloseForReset("reset-run", base, in.or("reason", "again")) })
	} else {
		s.apply(func(tx *Tx) error { tx.NoteReset("reset-run"); return nil })
	}
	s.printf("reset to %s", s.state.ResetRunID())
	tx, err := Reset(Resetting{
		NewRunID: "reset-run", RequestID: "reset-1", Reason: in.or("reason", "again"),
		Between: between, Later: s.events[finish-1:], Base: s.state, Exclude: exclusions(in),
	}, base, s.now, s.env)
	if err != nil {
		s.t.Fatal(err)
	}
	result, err := tx.Finish()
	require.NoError(s.t, err)
	s.state, s.rows, s.events = tx.Apply(), append(rows, result.Parts), append(events, result.Events...)
	checkInvariants(s.t, s.state, s.rows, s.events)
	require.True(s.t, result.New)
	s.printResult(result, true)
}

// rowsBefore are the rows ahead of the one that holds an event, and their fold; nil: there are none.
func rowsBefore(t require.TestingT, all [][]byte, event int64, lossy bool) (rows [][]byte, base *State) {
	last := int64(firstEventID)
	for i := range all {
		state, err := Load(nil, all[:i+1])
		require.NoError(t, err)
		if state.Core.NextEventId > event {
			break
		}
		if lossy && state.Core.NextEventId == last {
			continue
		}
		last = state.Core.NextEventId
		rows = append(rows, all[i])
	}
	if len(rows) == 0 {
		return nil, nil
	}
	base, err := Load(nil, rows)
	require.NoError(t, err)
	return rows, base
}

func exclusions(in input) (kinds []enumspb.ResetReapplyExcludeType) {
	for name, kind := range map[string]enumspb.ResetReapplyExcludeType{
		"signal": enumspb.RESET_REAPPLY_EXCLUDE_TYPE_SIGNAL,
		"update": enumspb.RESET_REAPPLY_EXCLUDE_TYPE_UPDATE,
		"cancel": enumspb.RESET_REAPPLY_EXCLUDE_TYPE_CANCEL_REQUEST,
	} {
		if strings.Contains(in.or("exclude", ""), name) {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}
