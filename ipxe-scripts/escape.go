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
	from := 0
	for i := range len(s) {
		if c := s[i]; !harmless[c] {
			dst = append(append(dst, s[from:i]...), '%', hex[c>>4], hex[c&15])
			from = i + 1
		}
	}
	return append(dst, s[from:]...)
}

// harmless names the bytes that mean nothing to iPXE, wherever they stand.
var harmless = func() (table [256]bool) {
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~:/?=@,+%*()[]!") {
		table[c] = true
	}
	return table
}()

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
func plainArg(arg string) bool {
	for i := range len(arg) {
		if c := arg[i]; c == '%' || !harmless[c] {
			return false
		}
	}
	return arg != ""
}
