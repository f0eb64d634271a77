package http

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"strings"
)

// compress shrinks a page to a tenth where the browser takes it so. Boot
// files and streams never pass through here, and pages hold no secret whose
// length could be guessed.
func compress(req *http.Request, h http.Header, page []byte) []byte {
	h.Add("Vary", "Accept-Encoding")
	if len(page) < 4<<10 || !strings.Contains(req.Header.Get("Accept-Encoding"), "gzip") {
		return page
	}
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err != nil {
		return page
	}
	if _, err := w.Write(page); err != nil || w.Close() != nil {
		return page
	}
	h.Set("Content-Encoding", "gzip")
	return out.Bytes()
}
