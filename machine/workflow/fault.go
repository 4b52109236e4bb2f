package workflow

import (
	"fmt"

	enumspb "go.temporal.io/api/enums/v1"
	"google.golang.org/protobuf/types/known/durationpb"
)

// What is wrong with a command, in the recorded words: programs and people look for these sentences. Where nothing is recorded of
// a field, it has the words recorded of its siblings.

// quotedMax cuts what a text quotes of a command, in bytes: the text becomes part of the history.
const quotedMax = 2 * idLengthMax

// impossible rejects a command that does not fit the state of the run: what it starts is there, or what it ends is not. The text is
// the recorded one.
func impossible(cause enumspb.WorkflowTaskFailedCause, event, key string, value any) error {
	return reject(cause, "invalid history builder state for action: add-%s-event, %s: %v", event, key, value)
}

// fault is what is wrong with one field of a command. The zero value: nothing.
type fault struct{ field, text string }

func notSet(field, command string) fault {
	return fault{field, field + " is not set on " + command + "."}
}

// required is notSet as recorded of children.
func required(field, command string) fault {
	return fault{field, "Required field " + field + " is not set on " + command + "."}
}

func tooLong(field, command, value string) fault {
	return fault{field, fmt.Sprintf("%s on %s exceeds length limit. %s=%s Length=%d Limit=%d",
		field, command, field, cut(value, quotedMax), len(value), idLengthMax)}
}

// badDuration is a fault in a timeout.
func badDuration(field, command string, d *durationpb.Duration) fault {
	if text := durationFault(d); text != "" {
		return fault{"", fmt.Sprintf("Invalid %s on %s: %s.", field, command, text)}
	}
	return fault{}
}

// invalid is a fault in a field of several parts, one that other commands have too.
func invalid(field, command, text string) fault {
	if text == "" {
		return fault{}
	}
	return fault{"", fmt.Sprintf("invalid %s on %s: %s.", field, command, text)}
}

func firstFault(faults ...fault) fault {
	for _, f := range faults {
		if f.text != "" {
			return f
		}
	}
	return fault{}
}

// of says which command the fault is in, by pairs of a field's name and its value; the faulty field is not named again.
func (f fault) of(pairs ...string) string {
	text := f.text
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i] != f.field {
			text += " " + pairs[i] + "=" + cut(pairs[i+1], quotedMax)
		}
	}
	return text
}

// durationFault returns what is wrong with a duration; "": nothing.
func durationFault(d *durationpb.Duration) string {
	switch {
	case nonNegative(d):
		return ""
	case d.CheckValid() == nil:
		return "negative duration"
	}
	return "invalid duration"
}

// nonNegative tells whether a duration may be used.
func nonNegative(d *durationpb.Duration) bool {
	return d == nil || (d.IsValid() && d.AsDuration() >= 0)
}
