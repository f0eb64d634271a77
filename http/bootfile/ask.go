package bootfile

import (
	"net/http"
	"strings"
)

// FromStart reports whether a request is for the start of a file: iPXE and
// some firmware fetch files piece by piece, which is one fact, not many.
func FromStart(req *http.Request) bool {
	r := req.Header.Get("Range")
	return r == "" || strings.HasPrefix(r, "bytes=0-")
}

// ChunkID reads "<first 4 digits>/<64 hex digits>.cacnk".
func ChunkID(name string) (id string, ok bool) {
	prefix, file, _ := strings.Cut(name, "/")
	id, ok = strings.CutSuffix(file, ".cacnk")
	if !ok || !IsHash(id) || id[:4] != prefix {
		return "", false
	}
	return id, true
}

// IsHash reports whether a text is 64 digits in hex, as of SHA-256 and
// SHA-512/256.
func IsHash(text string) bool {
	return len(text) == 64 && strings.Trim(text, "0123456789abcdef") == ""
}
