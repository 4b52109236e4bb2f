package visibilitysql

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/perdure/perdure/persistence"
)

// condition turns a filter, or its negation, into SQL. Negations are pushed down to the conditions on single fields (which is sound
// in SQL's three-valued logic), so that every field decides what its negation means for missing values.
func (b *builder) condition(f persistence.Filter, negate bool) (string, error) {
	switch f := f.(type) {
	case persistence.And:
		return b.junction(f.Filters, negate, negate)
	case persistence.Or:
		return b.junction(f.Filters, !negate, negate)
	case persistence.Not:
		return b.condition(f.Filter, !negate)
	}
	if b.conditions++; b.conditions > conditionsMax {
		return "", badFilter("more than %d conditions", conditionsMax)
	}
	switch f := f.(type) {
	case persistence.Compare:
		return b.compare(f, negate)
	case persistence.In:
		return b.in(f, f.Negate != negate)
	case persistence.Between:
		return b.between(f, f.Negate != negate)
	case persistence.IsNull:
		return b.isNull(f, f.Negate != negate)
	case persistence.StartsWith:
		return b.startsWith(f, f.Negate != negate)
	default:
		return "", badFilter("unknown condition %T", f)
	}
}

// junction joins conditions with OR or AND. No conditions at all are true under AND and false under OR.
func (b *builder) junction(filters []persistence.Filter, or, negate bool) (string, error) {
	if len(filters) == 0 {
		return boolean(!or), nil
	}
	parts := make([]string, len(filters))
	for i, f := range filters {
		sql, err := b.condition(f, negate)
		if err != nil {
			return "", err
		}
		parts[i] = sql
	}
	if or {
		return "(" + strings.Join(parts, " OR ") + ")", nil
	}
	return "(" + strings.Join(parts, " AND ") + ")", nil
}

func boolean(v bool) string {
	if v {
		return "(1 = 1)"
	}
	return "(1 = 0)"
}

var negated = map[persistence.CompareOp]persistence.CompareOp{
	persistence.Equal:          persistence.NotEqual,
	persistence.NotEqual:       persistence.Equal,
	persistence.Less:           persistence.GreaterOrEqual,
	persistence.LessOrEqual:    persistence.Greater,
	persistence.Greater:        persistence.LessOrEqual,
	persistence.GreaterOrEqual: persistence.Less,
}

var operators = map[persistence.CompareOp]string{
	persistence.Equal:          " = ",
	persistence.NotEqual:       " <> ",
	persistence.Less:           " < ",
	persistence.LessOrEqual:    " <= ",
	persistence.Greater:        " > ",
	persistence.GreaterOrEqual: " >= ",
}

func (b *builder) compare(c persistence.Compare, negate bool) (string, error) {
	op := c.Op
	if negate {
		op = negated[op]
	}
	if operators[op] == "" {
		return "", badFilter("unknown operator %d on %s", c.Op, c.Field.Name)
	}
	if isSet(c.Field) {
		if op != persistence.Equal && op != persistence.NotEqual {
			return "", badFilter("operator%son %s, which is a set", operators[op], c.Field.Name)
		}
		return b.member(c.Field, []any{c.Value}, op == persistence.NotEqual)
	}
	if op == persistence.Equal && b.containable(c.Field) {
		return b.contains(c.Field, c.Value)
	}
	o, err := b.operand(c.Field)
	if err != nil {
		return "", err
	}
	if id, ok := c.Value.(string); ok && o.uuid != "" && op == persistence.Equal && isUUID(id) {
		return o.uuid + " = " + b.arg(id) + "::uuid", nil
	}
	value, err := b.value(o, c.Value)
	if err != nil {
		return "", err
	}
	sql := b.ordered(o, op) + operators[op] + value
	late := op == persistence.Greater || op == persistence.GreaterOrEqual || op == persistence.NotEqual
	return b.orOpen(o, sql, late), nil
}

// isUUID tells ids in the one form in which PostgreSQL writes them.
func isUUID(v string) bool {
	id, err := uuid.Parse(v)
	return err == nil && id.String() == v
}

// ordered is the operand with the collation that makes text order byte order, for operators that depend on it.
func (b *builder) ordered(o operand, op persistence.CompareOp) string {
	if op == persistence.Equal || op == persistence.NotEqual {
		return o.sql
	}
	return b.bytewise(o)
}

func (b *builder) bytewise(o operand) string {
	if b.dialect == Postgres && (o.class == classText || o.class == classDatetime) {
		return "(" + o.sql + `) COLLATE "C"`
	}
	return o.sql
}

// orOpen lets open runs pass where their close time counts as later than any time.
func (b *builder) orOpen(o operand, sql string, late bool) string {
	if late && !o.field.Custom && o.field.Name == closeTime {
		return "(" + sql + " OR close_time IS NULL)"
	}
	return sql
}

func (b *builder) in(f persistence.In, negate bool) (string, error) {
	if len(f.Values) > valuesMax {
		return "", badFilter("more than %d values for %s", valuesMax, f.Field.Name)
	}
	if isSet(f.Field) {
		if f.Field.Type == persistence.FieldText {
			return "", badFilter("IN on the text %s", f.Field.Name)
		}
		return b.member(f.Field, f.Values, negate)
	}
	o, err := b.operand(f.Field)
	if err != nil {
		return "", err
	}
	if len(f.Values) == 0 {
		return "(" + boolean(negate) + " AND " + o.sql + " IS NOT NULL)", nil
	}
	values, err := b.values(o, f.Values)
	if err != nil {
		return "", err
	}
	if negate {
		return b.orOpen(o, o.sql+" NOT IN ("+values+")", true), nil
	}
	return o.sql + " IN (" + values + ")", nil
}

func (b *builder) values(o operand, values []any) (string, error) {
	placeholders := make([]string, len(values))
	for i, v := range values {
		placeholder, err := b.value(o, v)
		if err != nil {
			return "", err
		}
		placeholders[i] = placeholder
	}
	return strings.Join(placeholders, ", "), nil
}

func (b *builder) between(f persistence.Between, negate bool) (string, error) {
	if isSet(f.Field) {
		return "", badFilter("BETWEEN on %s, which is a set", f.Field.Name)
	}
	o, err := b.operand(f.Field)
	if err != nil {
		return "", err
	}
	bounds, err := b.values(o, []any{f.Low, f.High})
	if err != nil {
		return "", err
	}
	low, high, _ := strings.Cut(bounds, ", ")
	if negate {
		return b.orOpen(o, b.bytewise(o)+" NOT BETWEEN "+low+" AND "+high, true), nil
	}
	return b.bytewise(o) + " BETWEEN " + low + " AND " + high, nil
}

func (b *builder) isNull(f persistence.IsNull, negate bool) (string, error) {
	o, err := b.operand(f.Field)
	if err != nil {
		return "", err
	}
	if negate {
		return o.sql + " IS NOT NULL", nil
	}
	return o.sql + " IS NULL", nil
}

// startsWith is a range of the byte order, which indexes serve and which needs no escapes.
func (b *builder) startsWith(f persistence.StartsWith, negate bool) (string, error) {
	o, err := b.operand(f.Field)
	if err != nil {
		return "", err
	}
	if o.class != classText {
		return "", badFilter("STARTS_WITH on %s, which is not a keyword", f.Field.Name)
	}
	prefix := f.Prefix
	if b.dialect == Postgres {
		prefix = storable(prefix)
	}
	low := b.textArg(prefix)
	sql := b.bytewise(o)
	end, bounded := prefixEnd(prefix)
	switch {
	case bounded && negate:
		return "(" + sql + " < " + low + " OR " + sql + " >= " + b.textArg(end) + ")", nil
	case bounded:
		return "(" + sql + " >= " + low + " AND " + sql + " < " + b.textArg(end) + ")", nil
	case negate:
		return sql + " < " + low, nil
	default:
		return sql + " >= " + low, nil
	}
}

// prefixEnd returns the first text after all that start with a prefix, if there is one.
func prefixEnd(prefix string) (string, bool) {
	for prefix != "" {
		last, size := utf8.DecodeLastRuneInString(prefix)
		prefix = prefix[:len(prefix)-size]
		const surrogatesFirst, surrogatesEnd = 0xD800, 0xE000
		switch {
		case last == utf8.MaxRune:
			continue
		case last+1 == surrogatesFirst:
			last = surrogatesEnd
		default:
			last++
		}
		return prefix + string(last), true
	}
	return "", false
}

// isSet tells the fields whose conditions are about members: tags of a list, words of a text.
func isSet(f persistence.Field) bool {
	return f.Custom && (f.Type == persistence.FieldKeywordList || f.Type == persistence.FieldText)
}

// member is true if the set contains one of the values, or negated if it contains none of them or is missing.
func (b *builder) member(f persistence.Field, values []any, negate bool) (string, error) {
	var alternatives []string
	for _, v := range values {
		s, ok := v.(string)
		if !ok {
			return "", badFilter("%s cannot be compared with a %T", f.Name, v)
		}
		sql, err := b.memberOne(f, s)
		if err != nil {
			return "", err
		}
		alternatives = append(alternatives, sql)
	}
	if len(alternatives) == 0 {
		return boolean(negate), nil
	}
	sql := "(" + strings.Join(alternatives, " OR ") + ")"
	if negate {
		return sql + " IS NOT TRUE", nil
	}
	return sql, nil
}

func (b *builder) memberOne(f persistence.Field, value string) (string, error) {
	switch {
	case f.Type == persistence.FieldText:
		return b.word(f, value)
	case b.dialect == Postgres:
		return b.contains(f, []string{storable(value)})
	default:
		path := b.arg(sqlitePath(f.Name))
		return "(json_type(search_attributes, " + path + ") = 'array' AND EXISTS (SELECT 1 FROM json_each(search_attributes, " + path +
			") WHERE type = 'text' AND value = " + b.arg(value) + "))", nil
	}
}

// word is true if a word of the value occurs in the text. A value without words occurs nowhere.
func (b *builder) word(f persistence.Field, value string) (string, error) {
	words := Words(storable(value))
	if len(words) == 0 {
		return boolean(false), nil
	}
	o, err := b.operand(f)
	if err != nil {
		return "", err
	}
	if b.dialect == SQLite {
		return SQLiteHasWord + "(" + o.sql + ", " + b.arg(strings.Join(words, " ")) + ")", nil
	}
	return "regexp_split_to_array(lower(" + o.sql + "), " + b.arg(separatorsRegexp) + "::text) && string_to_array(" +
		b.arg(strings.Join(words, " ")) + "::text, ' ')", nil
}

// containable tells the attributes whose equality PostgreSQL's GIN index answers: it knows "contains", not "->>". Numbers are left
// out, because a float64 is compared with the stored decimal by value.
func (b *builder) containable(f persistence.Field) bool {
	return b.dialect == Postgres && f.Custom && (f.Type == persistence.FieldKeyword || f.Type == persistence.FieldBool)
}

// contains is true if the attribute is the value or, for an array, has its members.
func (b *builder) contains(f persistence.Field, value any) (string, error) {
	switch v := value.(type) {
	case string:
		value = storable(v)
		if f.Type != persistence.FieldKeyword {
			return "", badFilter("%s cannot be compared with a string", f.Name)
		}
	case bool:
		if f.Type != persistence.FieldBool {
			return "", badFilter("%s cannot be compared with a bool", f.Name)
		}
	case []string:
	default:
		return "", badFilter("%s cannot be compared with a %T", f.Name, value)
	}
	document, err := json.Marshal(map[string]any{storable(f.Name): value})
	if err != nil {
		return "", badFilter("value of %s: %v", f.Name, err)
	}
	return "search_attributes @> " + b.arg(string(document)) + "::jsonb", nil
}

// float adds a float64. PostgreSQL gets its shortest decimal form, which is also what JSON keeps, and compares it as a numeric: a cast
// of the stored number to a float could overflow.
func (b *builder) float(v float64) string {
	if b.dialect == SQLite {
		return b.arg(v)
	}
	text := strconv.FormatFloat(v, 'g', -1, 64)
	if math.IsInf(v, 0) {
		text = strings.TrimPrefix(strings.Replace(text, "Inf", "Infinity", 1), "+")
	}
	return b.arg(text) + "::text::numeric"
}
