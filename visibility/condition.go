package visibility

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/perdure/perdure/persistence"
)

// condition is what the parser knows of a condition before its values.
type condition struct {
	field    persistence.Field
	operator string // lower case
	negated  bool
	from     int // byte offset
}

var compareOps = map[string]persistence.CompareOp{
	"=": persistence.Equal, "!=": persistence.NotEqual, "<": persistence.Less, "<=": persistence.LessOrEqual,
	">": persistence.Greater, ">=": persistence.GreaterOrEqual,
}

var oppositeOps = map[persistence.CompareOp]persistence.CompareOp{
	persistence.Equal: persistence.NotEqual, persistence.NotEqual: persistence.Equal,
	persistence.Less: persistence.GreaterOrEqual, persistence.GreaterOrEqual: persistence.Less,
	persistence.Greater: persistence.LessOrEqual, persistence.LessOrEqual: persistence.Greater,
}

func allOf(filters ...persistence.Filter) persistence.Filter {
	var flat []persistence.Filter
	for _, f := range filters {
		if and, ok := f.(persistence.And); ok {
			flat = append(flat, and.Filters...)
		} else {
			flat = append(flat, f)
		}
	}
	if len(flat) == 1 {
		return flat[0]
	}
	return persistence.And{Filters: flat}
}

func anyOf(filters ...persistence.Filter) persistence.Filter {
	var flat []persistence.Filter
	for _, f := range filters {
		if or, ok := f.(persistence.Or); ok {
			flat = append(flat, or.Filters...)
		} else {
			flat = append(flat, f)
		}
	}
	if len(flat) == 1 {
		return flat[0]
	}
	return persistence.Or{Filters: flat}
}

// countConditions counts the leaves.
func countConditions(f persistence.Filter) int {
	var parts []persistence.Filter
	switch f := f.(type) {
	case persistence.And:
		parts = f.Filters
	case persistence.Or:
		parts = f.Filters
	default:
		return 1
	}
	n := 0
	for _, part := range parts {
		n += countConditions(part)
	}
	return n
}

func present(f persistence.Field) persistence.Filter {
	return persistence.IsNull{Field: f, Negate: true}
}

// never is true of no row, or negated of every row.
func never(f persistence.Field, negated bool) persistence.Filter {
	parts := []persistence.Filter{persistence.IsNull{Field: f}, present(f)}
	if negated {
		return persistence.Or{Filters: parts}
	}
	return persistence.And{Filters: parts}
}

// withMissing completes a negative condition: a run without a list does not have the word in its list, so it is found,
// whereas a missing scalar is unequal to nothing.
func (c condition) withMissing(f persistence.Filter) persistence.Filter {
	if c.negated && c.field.Type == persistence.FieldKeywordList {
		return persistence.Or{Filters: []persistence.Filter{persistence.IsNull{Field: c.field}, f}}
	}
	return f
}

func (p *parser) compare(c condition) (persistence.Filter, error) {
	op := compareOps[c.operator]
	ordered := op != persistence.Equal && op != persistence.NotEqual
	value, err := p.value(c.field)
	if err != nil {
		return nil, err
	}
	if ordered && (c.field.Type == persistence.FieldText || c.field.Type == persistence.FieldKeywordList) {
		return nil, p.unsupportedOperator(c)
	}
	if c.negated {
		op = oppositeOps[op]
	}
	c.negated = op == persistence.NotEqual
	switch c.field.Type {
	case persistence.FieldText:
		return matchText(c, value.(string)), nil
	case persistence.FieldBool:
		return compareBool(c.field, op, value.(bool)), nil
	}
	return c.withMissing(persistence.Compare{Field: c.field, Op: op, Value: value}), nil
}

// matchText finds texts with any of the words, so that what is sought can be written as it stands in the text. A word is a
// run of letters and digits.
func matchText(c condition, text string) persistence.Filter {
	words := strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	if len(words) == 0 {
		return never(c.field, c.negated)
	}
	op := persistence.Equal
	if c.negated {
		op = persistence.NotEqual
	}
	filters := make([]persistence.Filter, len(words))
	for i, word := range words {
		filters[i] = persistence.Compare{Field: c.field, Op: op, Value: word}
	}
	if c.negated {
		return allOf(filters...)
	}
	return anyOf(filters...)
}

// compareBool turns an order (false before true) into an equality, the only condition on bools that stores need to know.
func compareBool(f persistence.Field, op persistence.CompareOp, value bool) persistence.Filter {
	rank := map[bool]int{false: 0, true: 1}
	holds := func(candidate bool) bool {
		d := rank[candidate] - rank[value]
		switch op {
		case persistence.Equal:
			return d == 0
		case persistence.NotEqual:
			return d != 0
		case persistence.Less:
			return d < 0
		case persistence.LessOrEqual:
			return d <= 0
		case persistence.Greater:
			return d > 0
		default:
			return d >= 0
		}
	}
	switch f0, f1 := holds(false), holds(true); {
	case f0 && f1:
		return present(f)
	case f0 || f1:
		return persistence.Compare{Field: f, Op: persistence.Equal, Value: f1}
	default:
		return never(f, false)
	}
}

func (p *parser) in(c condition) (persistence.Filter, error) {
	if err := p.expectSymbol("("); err != nil {
		return nil, err
	}
	var values []any
	for {
		value, err := p.value(c.field)
		if err != nil {
			return nil, err
		}
		values = append(values, value)
		if !p.token.symbol(",") {
			break
		}
		if err := p.advance(); err != nil {
			return nil, err
		}
	}
	if err := p.expectSymbol(")"); err != nil {
		return nil, err
	}
	if c.field.Type == persistence.FieldText {
		return nil, p.unsupportedOperator(c)
	}
	return c.withMissing(persistence.In{Field: c.field, Values: values, Negate: c.negated}), nil
}

func (p *parser) between(c condition) (persistence.Filter, error) {
	low, err := p.value(c.field)
	if err != nil {
		return nil, err
	}
	if err := p.expectWords("AND"); err != nil {
		return nil, err
	}
	high, err := p.value(c.field)
	if err != nil {
		return nil, err
	}
	switch c.field.Type {
	case persistence.FieldText, persistence.FieldKeywordList, persistence.FieldBool:
		return nil, invalidExpression("cannot do range condition on search attribute '%s' of type %s", c.field.Name, typeName(c.field.Type))
	}
	return persistence.Between{Field: c.field, Low: low, High: high, Negate: c.negated}, nil
}

func (p *parser) isNull(c condition) (persistence.Filter, error) {
	if p.token.keyword("NOT") {
		c.negated = !c.negated
		if err := p.advance(); err != nil {
			return nil, err
		}
	}
	if err := p.expectWords("NULL"); err != nil {
		return nil, err
	}
	return persistence.IsNull{Field: c.field, Negate: c.negated}, nil
}

func (p *parser) startsWith(c condition) (persistence.Filter, error) {
	l, err := p.literal()
	if err != nil {
		return nil, err
	}
	if l.kind != tokenString {
		return nil, invalidExpression("right-hand side of 'starts_with' must be a literal string (got: %s)", shorten(l.text))
	}
	if c.field.Type != persistence.FieldKeyword || c.field.Name == ExecutionStatus {
		return nil, p.unsupportedOperator(c)
	}
	return persistence.StartsWith{Field: c.field, Prefix: l.text, Negate: c.negated}, nil
}

func (p *parser) unsupportedOperator(c condition) error {
	return invalidExpression("operator '%s' not supported for %s type search attribute in `%s`", c.operator, typeName(c.field.Type),
		shorten(p.lexer.input[c.from:p.end]))
}

func typeName(t persistence.FieldType) string {
	for indexed, field := range fieldTypes {
		if field == t {
			return indexed.String()
		}
	}
	return fmt.Sprintf("FieldType(%d)", t)
}
