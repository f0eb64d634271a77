package bmc

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// mostRunes is how many runes of a secret are looked for. What follows them
// without a space belongs to it.
const mostRunes = 128

// spellings is a regular expression of all the ways in which a secret may be
// written, and of its beginnings that have enough of it.
func spellings(secret string) string {
	var b strings.Builder
	n := 0
	for rest := secret; rest != "" && n < mostRunes; n++ {
		_, size := utf8.DecodeRuneInString(rest)
		if n >= enough {
			b.WriteString("(?:")
		}
		b.WriteString(spelling(rest[:size]))
		if rest = rest[size:]; rest != "" && n == mostRunes-1 {
			b.WriteString(`[^\s"'<>&,;]*`)
		}
	}
	b.WriteString(strings.Repeat(")?", max(0, n-enough)))
	return b.String()
}

// spelling is a regular expression of the ways to write one rune: as it is, with
// a backslash, and as forms, mail, JSON, scripts and pages escape it, which may be
// in one another.
func spelling(letter string) string {
	r, _ := utf8.DecodeRuneInString(letter)
	literal := `\\*` + regexp.QuoteMeta(string(r))
	if r == '\\' {
		literal = `\\+`
	}
	var form, script strings.Builder
	for _, b := range []byte(letter) {
		fmt.Fprintf(&form, `[%%=](?:25)*%02x`, b)
	}
	for _, u := range utf16.Encode([]rune{r}) {
		fmt.Fprintf(&script, `\\+u%04x`, u)
	}
	ways := []string{form.String(), script.String(), fmt.Sprintf(`\\+(?:u\{0*%x\}|u0*%08x)`, r, r), fmt.Sprintf(`&(?:amp;)*#(?:0*%d|x0*%x);?`, r, r)}
	if r < utf8.RuneSelf {
		ways = append(ways, fmt.Sprintf(`\\+x%02x`, r))
	}
	if !plain(r) { // whatever name it has: those around it are ours
		ways = append(ways, `&(?:amp;)*[a-z]\w+;?`)
	}
	if r == ' ' {
		ways = append(ways, `\+`)
	}
	return "(?:" + literal + "|(?i:" + strings.Join(ways, "|") + "))"
}

// plain reports whether a rune has no name in a page.
func plain(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
}

// escapes are what all other spellings of a rune than the rune have in them.
const escapes = `%=\&+`

// mayHave tells cheaply of most texts that a secret is not in them: one without
// escapes has it as it is, and one with them has each rune as it is or its number.
func mayHave(said, secret string) bool {
	head := []rune(secret)
	head = head[:min(len(head), enough)]
	if !strings.ContainsAny(said, escapes) {
		return strings.Contains(said, string(head)) || !utf8.ValidString(secret)
	}
	small := strings.ToLower(said)
	for _, r := range head {
		named := !plain(r) && strings.ContainsAny(said, "&+")
		if r < utf8.RuneSelf && !named && !strings.ContainsRune(said, r) && !strings.Contains(small, strconv.FormatInt(int64(r), 16)) &&
			!strings.Contains(small, strconv.Itoa(int(r))) {
			return false
		}
	}
	return true
}
