package http

import (
	"bytes"

	"github.com/rackstage/provision/pxe"
)

// quickSize is as much of a request as is looked at here: firmware says less.
const quickSize = 2 << 10

// parseQuick reads a request for a boot script at the head of what came in:
// the query of its URL, and how long it is. It knows just the one form in which
// loaders ask, word for word; whatever differs from it, were it only an unusual
// header or a part that has not come yet, is net/http's to read and to answer.
func parseQuick(in []byte) (query []byte, size int, ok bool) {
	rest, ok := bytes.CutPrefix(in, quickStart)
	if !ok {
		return nil, 0, false
	}
	query, rest, ok = bytes.Cut(rest, quickVersion)
	if !ok || !allOf(query, inQuery) {
		return nil, 0, false
	}
	host := false
	for {
		var line []byte
		if line, rest, ok = bytes.Cut(rest, crlf); !ok {
			return nil, 0, false
		}
		if len(line) == 0 {
			return query, len(in) - len(rest), host
		}
		name, value, ok := bytes.Cut(line, colon)
		switch {
		case !ok, !allOf(value, inValue):
			return nil, 0, false
		case isWord(name, "host"):
			if host || len(value) == 0 || !allOf(value, inHost) {
				return nil, 0, false
			}
			host = true
		case isWord(name, "connection"):
			if !isWord(value, "keep-alive") {
				return nil, 0, false
			}
		case !isWord(name, "user-agent") && !isWord(name, "accept"):
			return nil, 0, false
		}
	}
}

// The words of such a request.
var (
	quickStart   = []byte("GET " + pxe.PathScript + "?")
	quickVersion = []byte(" HTTP/1.1\r\n")
	crlf         = []byte("\r\n")
	colon        = []byte(": ")
)

// isWord reports whether b is a word of ASCII, which is given in lower case.
// [bytes.EqualFold] would take "ſ" for an s, and net/http takes no such name.
func isWord(b []byte, word string) bool {
	if len(b) != len(word) {
		return false
	}
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != word[i] {
			return false
		}
	}
	return true
}

// Kinds of bytes.
const (
	inQuery = 1 << iota
	inValue
	inHost
)

var kinds = func() (k [256]byte) {
	for c := ' '; c <= '~'; c++ {
		k[c] = inValue
		if c != ' ' && c != '#' {
			k[c] |= inQuery
		}
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || bytes.ContainsRune([]byte(".:[]-_"), c) {
			k[c] |= inHost
		}
	}
	return k
}()

func allOf(b []byte, kind byte) bool {
	for _, c := range b {
		if kinds[c]&kind == 0 {
			return false
		}
	}
	return true
}
