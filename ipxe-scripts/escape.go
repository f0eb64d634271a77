package ipxescripts

import "strings"

// Escape makes one word of s that iPXE takes as it stands. iPXE cuts lines at
// newlines and words at blanks, reads ${…} as a setting, and takes the words
// && || ; as ends of commands. All of these, and everything else that is not
// known to be harmless, is written as in a URL: %0A. In a URL that is right
// anyway; where it is not, hostile text becomes unsightly, not dangerous.
func Escape(s string) string { return string(appendWord(nil, s)) }

// appendWord puts s behind dst, escaped.
func appendWord(dst []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	for {
		n := free(s, harmful)
		if dst = append(dst, s[:n]...); n == len(s) {
			return dst
		}
		dst = append(dst, '%', hex[s[n]>>4], hex[s[n]&15])
		s = s[n+1:]
	}
}

// What a byte is.
const (
	harmful = 1 << iota // it means something to iPXE, wherever it stands, or may do so
	escape              // it begins an escape
)

var marks = func() (table [256]uint8) {
	for c := range table {
		table[c] = harmful
	}
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~:/?=@,+%*()[]!") {
		table[c] = 0
	}
	table['%'] = escape
	return table
}()

// free returns how many bytes s begins with that are none of these. It looks at
// eight at a time: most of a script is what it has looked at.
func free(s string, of uint8) (n int) {
	for ; len(s)-n >= 8; n += 8 {
		b := s[n : n+8]
		if (marks[b[0]]|marks[b[1]]|marks[b[2]]|marks[b[3]]|marks[b[4]]|marks[b[5]]|marks[b[6]]|marks[b[7]])&of != 0 {
			break
		}
	}
	for n < len(s) && marks[s[n]]&of == 0 {
		n++
	}
	return n
}

// appendText puts s behind dst: its words, escaped, with single blanks between
// them.
func appendText(dst []byte, s string) []byte {
	first := true
	for word := range strings.FieldsSeq(s) {
		if !first {
			dst = append(dst, ' ')
		}
		first = false
		dst = appendWord(dst, word)
	}
	return dst
}

// plainArg reports whether an argument can be passed on to a kernel as it is:
// it would not undo an escape.
func plainArg(arg string) bool { return arg != "" && free(arg, harmful|escape) == len(arg) }
