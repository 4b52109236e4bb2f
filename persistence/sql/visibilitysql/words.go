package visibilitysql

import "strings"

// separators are what stands between the words of a Text. PostgreSQL gets the same list as a regular expression instead of
// [:alnum:], whose meaning depends on the locale of the database.
var separators = []struct{ first, last rune }{
	{0x01, '/'}, {':', '@'}, {'[', '`'}, {'{', 0xBF}, // what is neither letter nor digit in ASCII and Latin-1
	{0x2000, 0x206F}, // general punctuation
	{0x3000, 0x303F}, // CJK punctuation
	{0xFF00, 0xFF0F}, // full-width punctuation
}

const separatorsRegexp = `[\u0001-\u002F\u003A-\u0040\u005B-\u0060\u007B-\u00BF\u2000-\u206F\u3000-\u303F\uFF00-\uFF0F]+`

// Words splits a text as conditions on Text fields see it: in lower case, without duplicates.
func Words(text string) []string {
	words := strings.FieldsFunc(strings.ToLower(text), isSeparator)
	seen := make(map[string]bool, len(words))
	unique := words[:0]
	for _, word := range words {
		if !seen[word] {
			seen[word] = true
			unique = append(unique, word)
		}
	}
	return unique
}

func isSeparator(r rune) bool {
	for _, s := range separators {
		if s.first <= r && r <= s.last {
			return true
		}
	}
	return r == 0
}

// SQLiteHasWord is the name of the SQL function (text, words) that an SQLite store must register with [HasWord].
const SQLiteHasWord = "perdure_has_word"

// HasWord tells whether one of the words, which are in lower case and separated by blanks, occurs in a text.
func HasWord(text, words string) bool {
	wanted := strings.Split(words, " ")
	for _, word := range strings.FieldsFunc(strings.ToLower(text), isSeparator) {
		for _, w := range wanted {
			if word == w {
				return true
			}
		}
	}
	return false
}
