package visibility

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// tokenKind tells tokens of the filter language apart.
type tokenKind int

const (
	tokenEnd tokenKind = iota
	tokenName
	tokenQuotedName // `Order Color`: never a keyword
	tokenString
	tokenNumber
	tokenSymbol // = != < > <= >= ( ) , + -
)

// token is a lexical unit. Text is a name, a string's value, a number or a symbol; from and to are where it stands.
type token struct {
	kind     tokenKind
	text     string
	from, to int
}

// keyword tells whether the token is a word of the language, in any case.
func (t token) keyword(word string) bool {
	return t.kind == tokenName && strings.EqualFold(t.text, word)
}

func (t token) symbol(text string) bool { return t.kind == tokenSymbol && t.text == text }

// syntaxError is a filter that cannot be read, with the place as a byte offset.
type syntaxError struct {
	at      int
	message string
}

func (e *syntaxError) Error() string {
	return fmt.Sprintf("syntax error at position %d: %s", e.at+1, e.message)
}

// lexer cuts a filter into tokens.
type lexer struct {
	input string
	pos   int
}

func (l *lexer) next() (token, error) {
	for l.pos < len(l.input) && strings.IndexByte(" \t\r\n", l.input[l.pos]) >= 0 {
		l.pos++
	}
	from := l.pos
	if from == len(l.input) {
		return token{kind: tokenEnd, from: from, to: from}, nil
	}
	c := l.input[from]
	switch {
	case c == '\'' || c == '"':
		return l.quoted(c, tokenString)
	case c == '`':
		return l.quoted(c, tokenQuotedName)
	case c >= '0' && c <= '9', c == '.':
		return l.take(tokenNumber, numberLength(l.input[from:])), nil
	}
	if n := nameLength(l.input[from:]); n > 0 {
		return l.take(tokenName, n), nil
	}
	for _, symbol := range []string{"<=", ">=", "!=", "<>", "=", "<", ">", "(", ")", ",", "+", "-"} {
		if strings.HasPrefix(l.input[from:], symbol) {
			t := l.take(tokenSymbol, len(symbol))
			if symbol == "<>" {
				t.text = "!="
			}
			return t, nil
		}
	}
	r, _ := utf8.DecodeRuneInString(l.input[from:])
	return token{}, &syntaxError{from, fmt.Sprintf("unexpected character %q", r)}
}

func (l *lexer) take(kind tokenKind, length int) token {
	t := token{kind: kind, text: l.input[l.pos : l.pos+length], from: l.pos, to: l.pos + length}
	l.pos += length
	return t
}

// quoted reads to the closing quote. A doubled quote, or one after a backslash, belongs to the text.
func (l *lexer) quoted(quote byte, kind tokenKind) (token, error) {
	from := l.pos
	var text strings.Builder
	for i := from + 1; i < len(l.input); i++ {
		switch c := l.input[i]; {
		case c == 0:
			return token{}, &syntaxError{i, errNulByte.Error()}
		case c == quote && i+1 < len(l.input) && l.input[i+1] == quote:
			text.WriteByte(quote)
			i++
		case c == quote:
			l.pos = i + 1
			return token{kind: kind, text: text.String(), from: from, to: l.pos}, nil
		case c == '\\' && kind == tokenString && i+1 < len(l.input):
			i++
			text.WriteByte(unescape(l.input[i]))
		default:
			text.WriteByte(c)
		}
	}
	return token{}, &syntaxError{from, fmt.Sprintf("the quote %c is not closed", quote)}
}

func unescape(c byte) byte {
	switch c {
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	default:
		return c
	}
}

func nameLength(s string) int {
	for i, r := range s {
		if r != '_' && !unicode.IsLetter(r) && (i == 0 || !unicode.IsDigit(r)) {
			return i
		}
	}
	return len(s)
}

// numberLength covers digits, fraction and exponent; what is no number then is found when it is converted.
func numberLength(s string) int {
	for i := range len(s) {
		c := s[i]
		sign := (c == '+' || c == '-') && i > 0 && (s[i-1] == 'e' || s[i-1] == 'E')
		if !sign && c != '.' && c != '_' && !(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') {
			return i
		}
	}
	return len(s)
}
