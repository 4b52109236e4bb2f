package visibility

import (
	"math"
	"strconv"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"

	"github.com/perdure/perdure/persistence"
)

// literal is a value as written: tokenString, tokenNumber (with its sign) or tokenName (TRUE or FALSE).
type literal struct {
	kind tokenKind
	text string
}

// value reads a literal and converts it to what persistence.Filter wants of the field.
func (p *parser) value(f persistence.Field) (any, error) {
	if p.values++; p.values > filterValuesMax {
		return nil, invalidExpression("more than %d values", filterValuesMax)
	}
	l, err := p.literal()
	if err != nil {
		return nil, err
	}
	switch f.Name {
	case ExecutionStatus:
		return l.status()
	case ExecutionDuration:
		return l.duration()
	}
	var value any
	ok := false
	switch f.Type {
	case persistence.FieldKeyword, persistence.FieldText, persistence.FieldKeywordList:
		value, ok = l.text, l.kind == tokenString
	case persistence.FieldInt:
		value, ok = l.integer()
	case persistence.FieldDouble:
		value, ok = l.double()
	case persistence.FieldBool:
		value, ok = l.boolean()
	case persistence.FieldDatetime:
		return l.datetime()
	}
	if !ok {
		return nil, invalidExpression("%s is not a value of search attribute '%s' of type %s%s", l, f.Name, typeName(f.Type), l.hint(f))
	}
	return value, nil
}

func (p *parser) literal() (literal, error) {
	l := literal{kind: p.token.kind, text: p.token.text}
	switch {
	case p.token.symbol("-"), p.token.symbol("+"):
		sign := p.token.text
		if err := p.advance(); err != nil {
			return literal{}, err
		}
		if p.token.kind != tokenNumber {
			return literal{}, p.unexpected("a number after " + sign)
		}
		l = literal{kind: tokenNumber, text: strings.TrimPrefix(sign, "+") + p.token.text}
	case p.token.kind == tokenString, p.token.kind == tokenNumber, p.token.keyword("TRUE"), p.token.keyword("FALSE"):
	case p.token.keyword("NULL"):
		return literal{}, p.unexpected("a value (NULL is tested with IS NULL)")
	case p.token.kind == tokenQuotedName, p.token.kind == tokenName && !reservedWord(p.token):
		return literal{}, unsupported("column name on the right side of comparison expression (did you forget to quote '" + shorten(p.token.text) + "'?)")
	default:
		return literal{}, p.unexpected("a value")
	}
	return l, p.advance()
}

func (l literal) String() string {
	if l.kind == tokenString {
		return "'" + shorten(l.text) + "'"
	}
	return shorten(l.text)
}

func (l literal) hint(f persistence.Field) string {
	switch f.Type {
	case persistence.FieldKeyword, persistence.FieldText, persistence.FieldKeywordList:
		return " (did you forget to quote it?)"
	}
	return ""
}

// integer reads a whole number, also if it is quoted or written like 5.0.
func (l literal) integer() (int64, bool) {
	if l.kind == tokenName {
		return 0, false
	}
	if n, err := strconv.ParseInt(l.text, 10, 64); err == nil {
		return n, true
	}
	const exactMax = 1 << 53 // above it a float64 does not hold every integer
	n, ok := l.double()
	if !ok || n != math.Trunc(n) || math.Abs(n) > exactMax {
		return 0, false
	}
	return int64(n), true
}

func (l literal) double() (float64, bool) {
	if l.kind == tokenName {
		return 0, false
	}
	n, err := strconv.ParseFloat(l.text, 64)
	if err != nil || math.IsInf(n, 0) || math.IsNaN(n) {
		return 0, false
	}
	return n, true
}

func (l literal) boolean() (value, ok bool) {
	switch {
	case l.kind == tokenNumber:
		return l.text == "1", l.text == "0" || l.text == "1"
	case strings.EqualFold(l.text, "true"):
		return true, true
	case strings.EqualFold(l.text, "false"):
		return false, true
	}
	return false, false
}

// datetime reads RFC 3339 or nanoseconds since 1970.
func (l literal) datetime() (time.Time, error) {
	if l.kind == tokenNumber {
		if n, ok := l.integer(); ok {
			return time.Unix(0, n).UTC(), nil
		}
	} else if t, err := parseDatetime(l.text); err == nil {
		return t, nil
	}
	return time.Time{}, invalidExpression("unable to parse datetime %s", l)
}

// status reads a status by either of its names or by number.
func (l literal) status() (int64, error) {
	var status enumspb.WorkflowExecutionStatus
	switch l.kind {
	case tokenNumber:
		if n, ok := l.integer(); ok && n >= 0 && n <= math.MaxInt32 {
			status = enumspb.WorkflowExecutionStatus(n)
		}
	case tokenString:
		status, _ = enumspb.WorkflowExecutionStatusFromString(l.text)
	}
	if _, ok := enumspb.WorkflowExecutionStatus_name[int32(status)]; !ok || status == enumspb.WORKFLOW_EXECUTION_STATUS_UNSPECIFIED {
		return 0, invalidExpression("invalid %s value %s", ExecutionStatus, l)
	}
	return int64(status), nil
}

// duration reads nanoseconds, a Go duration ("1h30m") or hours, minutes and seconds ("01:30:00").
func (l literal) duration() (int64, error) {
	if n, ok := l.integer(); ok {
		return n, nil
	}
	if d, err := time.ParseDuration(l.text); err == nil {
		return int64(d), nil
	}
	if d, ok := clockDuration(l.text); ok {
		return int64(d), nil
	}
	return 0, invalidExpression("invalid %s value %s: use nanoseconds, '1h30m' or '01:30:00'", ExecutionDuration, l)
}

func clockDuration(s string) (time.Duration, bool) {
	const hoursMax = 2_000_000 // more do not fit a duration
	parts := strings.Split(s, ":")
	if len(parts) != 3 {
		return 0, false
	}
	var units [3]int64
	for i, limit := range []int64{hoursMax, 59, 59} {
		n, err := strconv.ParseUint(parts[i], 10, 32)
		if err != nil || int64(n) > limit {
			return 0, false
		}
		units[i] = int64(n)
	}
	return time.Duration(units[0])*time.Hour + time.Duration(units[1])*time.Minute + time.Duration(units[2])*time.Second, true
}
