package visibility

import (
	"fmt"

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
	if c.field.Type == persistence.FieldBool {
		return compareBool(c.field, op, value.(bool)), nil
	}
	return persistence.Compare{Field: c.field, Op: op, Value: value}, nil
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
		return persistence.IsNull{Field: f, Negate: true}
	case f0 || f1:
		return persistence.Compare{Field: f, Op: persistence.Equal, Value: f1}
	default:
		return persistence.In{Field: f} // one of no values
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
	return persistence.In{Field: c.field, Values: values, Negate: c.negated}, nil
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
