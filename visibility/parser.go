package visibility

import (
	"errors"
	"fmt"
	"strings"

	"go.temporal.io/api/serviceerror"

	"github.com/perdure/perdure/persistence"
)

// Limits of a filter.
const (
	// FilterBytesMax is room for filterValuesMax workflow ids of ordinary length.
	FilterBytesMax = 256 << 10
	// filterDepthMax bounds the recursion of the parser; nobody nests by hand so deep.
	filterDepthMax = 50
	// filterConditionsMax keeps the statement below the depth that SQLite accepts of an expression, 1000. The parser adds one.
	filterConditionsMax = 400
	// filterValuesMax keeps the statement below the parameters that SQLite (32766) and PostgreSQL (65535) accept.
	filterValuesMax = 10_000
)

// ParseList reads the filter of a list. Nil means every row. Rows of the server's own executions are left out unless the
// filter mentions TemporalNamespaceDivision. Errors are INVALID_ARGUMENT, for an unregistered name *UnknownAttributeError.
func (a *Attributes) ParseList(query string) (persistence.Filter, error) {
	filter, groupBy, err := a.parse(query)
	if err == nil && groupBy != nil {
		err = unsupported("'GROUP BY' clause")
	}
	if err != nil {
		return nil, invalidQuery(err)
	}
	return filter, nil
}

// ParseCount reads the filter of a count, which may group by ExecutionStatus: then groupBy is that field.
func (a *Attributes) ParseCount(query string) (filter persistence.Filter, groupBy *persistence.Field, err error) {
	filter, groupBy, err = a.parse(query)
	if err != nil {
		return nil, nil, invalidQuery(err)
	}
	return filter, groupBy, nil
}

func invalidQuery(err error) error {
	message := "invalid query: " + err.Error()
	var unknown *unknownColumnError
	if errors.As(err, &unknown) {
		return newUnknownAttribute(unknown.name, message)
	}
	return serviceerror.NewInvalidArgument(message)
}

type unknownColumnError struct{ name string }

func (e *unknownColumnError) Error() string {
	return fmt.Sprintf("invalid expression: column name '%s' is not a valid search attribute", e.name)
}

func invalidExpression(format string, args ...any) error {
	return errors.New("invalid expression: " + fmt.Sprintf(format, args...))
}

func unsupported(what string) error { return errors.New("operation is not supported: " + what) }

// parser is a recursive descent over one token of lookahead. It resolves names and values as it goes.
//
//	filter     = [ or ] [ GROUP BY name ]
//	or         = and { OR and }
//	and        = not { AND not }
//	not        = NOT not | ( or ) | condition
//	condition  = name ( operator value | [NOT] IN (value, …) | [NOT] BETWEEN value AND value | IS [NOT] NULL | [NOT] STARTS_WITH string )
type parser struct {
	lexer      lexer
	token      token
	end        int // of the token before, as a byte offset
	attributes *Attributes
	depth      int
	conditions int
	values     int
	division   bool // TemporalNamespaceDivision is mentioned
}

func (a *Attributes) parse(query string) (persistence.Filter, *persistence.Field, error) {
	if len(query) > FilterBytesMax {
		return nil, nil, fmt.Errorf("length %d exceeds limit %d", len(query), FilterBytesMax)
	}
	p := &parser{lexer: lexer{input: query}, attributes: a}
	if err := p.advance(); err != nil {
		return nil, nil, err
	}
	var filter persistence.Filter
	if !p.clause() {
		var err error
		if filter, err = p.or(false); err != nil {
			return nil, nil, err
		}
	}
	groupBy, err := p.groupBy()
	if err != nil {
		return nil, nil, err
	}
	return p.hideDivisions(filter), groupBy, nil
}

// clause tells whether the condition is over (or missing).
func (p *parser) clause() bool {
	for _, word := range []string{"GROUP", "ORDER", "LIMIT"} {
		if p.token.keyword(word) {
			return true
		}
	}
	return p.token.kind == tokenEnd
}

func (p *parser) hideDivisions(filter persistence.Filter) persistence.Filter {
	if p.division {
		return filter
	}
	field, _ := p.attributes.field(NamespaceDivision)
	visible := persistence.IsNull{Field: field}
	switch f := filter.(type) {
	case nil:
		return visible
	case persistence.And:
		return persistence.And{Filters: append(f.Filters, visible)}
	default:
		return persistence.And{Filters: []persistence.Filter{f, visible}}
	}
}

func (p *parser) groupBy() (*persistence.Field, error) {
	var field *persistence.Field
	if p.token.keyword("GROUP") {
		if err := p.expectWords("GROUP", "BY"); err != nil {
			return nil, err
		}
		f, err := p.field()
		if err != nil {
			return nil, err
		}
		if p.token.symbol(",") {
			return nil, unsupported("'GROUP BY' clause supports only a single field")
		}
		if f.Name != ExecutionStatus {
			return nil, unsupported("'GROUP BY' clause is only supported for " + ExecutionStatus)
		}
		field = &f
	}
	switch {
	case p.token.kind == tokenEnd:
		return field, nil
	case p.token.keyword("ORDER"):
		return nil, unsupported("'ORDER BY' clause")
	case p.token.keyword("LIMIT"):
		return nil, unsupported("'LIMIT' clause")
	case p.token.keyword("HAVING"):
		return nil, unsupported("'HAVING' clause")
	}
	return nil, p.unexpected("AND, OR or the end")
}

// or and its operands take the number of NOTs around them as negated (odd: true) and give it to the conditions, which know
// best what their own opposite is. So a filter has no Not.
func (p *parser) or(negated bool) (persistence.Filter, error) {
	filters, err := p.chain("OR", p.and, negated)
	if err != nil {
		return nil, err
	}
	if negated {
		return allOf(filters...), nil
	}
	return anyOf(filters...), nil
}

func (p *parser) and(negated bool) (persistence.Filter, error) {
	filters, err := p.chain("AND", p.not, negated)
	if err != nil {
		return nil, err
	}
	if negated {
		return anyOf(filters...), nil
	}
	return allOf(filters...), nil
}

func (p *parser) chain(word string, operand func(bool) (persistence.Filter, error), negated bool) ([]persistence.Filter, error) {
	var filters []persistence.Filter
	for {
		f, err := operand(negated)
		if err != nil {
			return nil, err
		}
		filters = append(filters, f)
		if !p.token.keyword(word) {
			return filters, nil
		}
		if err := p.advance(); err != nil {
			return nil, err
		}
	}
}

func (p *parser) not(negated bool) (persistence.Filter, error) {
	if p.depth++; p.depth > filterDepthMax {
		return nil, &syntaxError{p.token.from, fmt.Sprintf("nested deeper than %d levels", filterDepthMax)}
	}
	defer func() { p.depth-- }()
	switch {
	case p.token.keyword("NOT"):
		if err := p.advance(); err != nil {
			return nil, err
		}
		return p.not(!negated)
	case p.token.symbol("("):
		if err := p.advance(); err != nil {
			return nil, err
		}
		f, err := p.or(negated)
		if err != nil {
			return nil, err
		}
		return f, p.expectSymbol(")")
	}
	return p.condition(negated)
}

func (p *parser) condition(negated bool) (persistence.Filter, error) {
	if p.conditions++; p.conditions > filterConditionsMax {
		return nil, fmt.Errorf("more than %d conditions", filterConditionsMax)
	}
	c := condition{from: p.token.from, negated: negated}
	var err error
	if c.field, err = p.field(); err != nil {
		if errors.As(err, new(*unknownColumnError)) && p.token.kind == tokenEnd {
			return nil, errIncomplete() // a lone word, whatever it is
		}
		return nil, err
	}
	not := p.token.keyword("NOT")
	if not {
		c.negated = !c.negated
		if err := p.advance(); err != nil {
			return nil, err
		}
	}
	c.operator = strings.ToLower(p.token.text)
	parse := p.operation(not)
	if parse == nil {
		return nil, p.noOperation(c, not)
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	return parse(c)
}

// operation is what the current token begins, after NOT or not; nil: nothing.
func (p *parser) operation(not bool) func(condition) (persistence.Filter, error) {
	switch {
	case p.token.keyword("IN"):
		return p.in
	case p.token.keyword("BETWEEN"):
		return p.between
	case p.token.keyword("STARTS_WITH"):
		return p.startsWith
	case p.token.keyword("IS") && !not:
		return p.isNull
	case p.token.kind == tokenSymbol && compareOps[p.token.text] != 0 && !not:
		return p.compare
	}
	return nil
}

func errIncomplete() error { return invalidExpression("incomplete expression") }

func (p *parser) noOperation(c condition, not bool) error {
	switch {
	case p.token.keyword("LIKE"):
		return unsupported("operator 'like' (STARTS_WITH finds prefixes)")
	case p.token.kind == tokenEnd && !not:
		return errIncomplete()
	}
	return p.unexpected("an operator after " + c.field.Name)
}

func (p *parser) field() (persistence.Field, error) {
	name := p.token
	if name.kind != tokenQuotedName && (name.kind != tokenName || reservedWord(name)) {
		return persistence.Field{}, p.unexpected("the name of a search attribute")
	}
	if err := p.advance(); err != nil {
		return persistence.Field{}, err
	}
	field, ok := p.attributes.field(name.text)
	if !ok {
		return persistence.Field{}, &unknownColumnError{name.text}
	}
	p.division = p.division || field.Name == NamespaceDivision
	return field, nil
}

var reservedWords = []string{"AND", "OR", "NOT", "IN", "BETWEEN", "IS", "NULL", "STARTS_WITH", "LIKE", "TRUE", "FALSE",
	"GROUP", "ORDER", "BY", "LIMIT", "HAVING", "SELECT"}

func reservedWord(t token) bool {
	for _, word := range reservedWords {
		if t.keyword(word) {
			return true
		}
	}
	return false
}

// advance reads the next token.
func (p *parser) advance() error {
	p.end = p.token.to
	t, err := p.lexer.next()
	if err != nil {
		return err
	}
	p.token = t
	return nil
}

func (p *parser) expectSymbol(symbol string) error {
	if !p.token.symbol(symbol) {
		return p.unexpected("'" + symbol + "'")
	}
	return p.advance()
}

func (p *parser) expectWords(words ...string) error {
	for _, word := range words {
		if !p.token.keyword(word) {
			return p.unexpected(word)
		}
		if err := p.advance(); err != nil {
			return err
		}
	}
	return nil
}

func (p *parser) unexpected(wanted string) error {
	found := "the end"
	if p.token.kind != tokenEnd {
		found = shorten(p.lexer.input[p.token.from:p.token.to])
	}
	return &syntaxError{p.token.from, fmt.Sprintf("expected %s, found %s", wanted, found)}
}

// shorten keeps an error readable when a part of a long filter is quoted in it.
func shorten(s string) string {
	const shownMax = 100 // bytes
	if len(s) <= shownMax {
		return s
	}
	return strings.ToValidUTF8(s[:shownMax], "") + "…"
}
