package ipxescripts

import "strings"

// Escape makes one word of s that iPXE takes as it stands. iPXE cuts lines at
// newlines and words at blanks, reads ${…} as a setting, and takes the words
// && || ; as ends of commands. All of these, and everything else that is not
// known to be harmless, is written as in a URL: %0A. In a URL that is right
// anyway; where it is not, hostile text becomes unsightly, not dangerous.
func Escape(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if harmless(c) {
			b.WriteByte(c)
			continue
		}
		b.Write([]byte{'%', hex[c>>4], hex[c&15]})
	}
	return b.String()
}

// harmless names the bytes that mean nothing to iPXE, wherever they stand.
func harmless(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	default:
		return strings.IndexByte("-._~:/?=@,+%*()[]!", c) >= 0
	}
}

// A word is escaped wherever it is printed.
type word string

// String implements fmt.Stringer, which text/template asks.
func (w word) String() string { return Escape(string(w)) }

// A text is words with single blanks between them.
type text string

// String implements fmt.Stringer.
func (t text) String() string {
	words := strings.Fields(string(t))
	for i, w := range words {
		words[i] = Escape(w)
	}
	return strings.Join(words, " ")
}
