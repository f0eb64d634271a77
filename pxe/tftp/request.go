package tftp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strconv"
	"strings"
)

const (
	opRRQ = 1
	opWRQ = 2

	maxName = 255
	// maxRequest is more than any request has: name, mode and a few options.
	maxRequest = 1024

	minBlock = 512
	// maxBlock is an Ethernet frame less IPv4 and UDP headers and the four
	// bytes of a DATA packet. Fragments get lost in firmware.
	maxBlock = 1468
)

var (
	errMalformed = errors.New("malformed request")
	errWrite     = errors.New("write request")
)

// A request is a read request as it came, understood.
type request struct {
	name    string
	mode    string
	options []option
}

type option struct{ name, value string }

// parseRequest reads a packet that came to the port of requests.
func parseRequest(b []byte) (request, error) {
	if len(b) < 4 || len(b) > maxRequest {
		return request{}, errMalformed
	}
	switch binary.BigEndian.Uint16(b) {
	case opRRQ:
	case opWRQ:
		return request{}, errWrite
	default:
		return request{}, errMalformed
	}
	fields, err := splitFields(b[2:])
	if err != nil || len(fields) < 2 || len(fields[0]) > maxName {
		return request{}, errMalformed
	}
	r := request{name: fields[0], mode: strings.ToLower(fields[1])}
	if r.mode != "octet" && r.mode != "netascii" {
		return request{}, errMalformed
	}
	r.options = knownOptions(fields[2:])
	return r, nil
}

// splitFields cuts at NUL. The last field has to end in one.
func splitFields(b []byte) ([]string, error) {
	if b[len(b)-1] != 0 {
		return nil, errMalformed
	}
	var fields []string
	for f := range bytes.SplitSeq(b[:len(b)-1], []byte{0}) {
		fields = append(fields, string(f))
	}
	return fields, nil
}

// knownOptions keeps the options that we grant, in lower case and with values
// that make sense. RFC 2347: what a server does not know or like it leaves
// out of its answer, and the client goes on without.
//
// blksize is cut to what a frame holds here: pin cannot see the interface
// behind our socket. windowsize (RFC 7440) is not granted yet.
func knownOptions(fields []string) []option {
	var kept []option
	seen := make(map[string]bool)
	for i := 0; i+1 < len(fields); i += 2 {
		name := strings.ToLower(fields[i])
		n, err := strconv.ParseUint(fields[i+1], 10, 32)
		if err != nil || seen[name] {
			continue
		}
		seen[name] = true
		switch {
		case name == "tsize" && n == 0:
			kept = append(kept, option{name, "0"})
		case name == "blksize" && n >= minBlock && n <= 65464:
			kept = append(kept, option{name, strconv.FormatUint(min(n, maxBlock), 10)})
		}
	}
	return kept
}

// bytes writes the request in the one form that pin understands.
func (r request) bytes() []byte {
	b := []byte{0, opRRQ}
	for _, s := range []string{r.name, r.mode} {
		b = append(append(b, s...), 0)
	}
	for _, o := range r.options {
		b = append(append(b, o.name...), 0)
		b = append(append(b, o.value...), 0)
	}
	return b
}

// cleanName makes a request's file name a relative path with single slashes,
// as [os.Root] takes it: shim asks for "dir//grubx64.efi", some firmware
// writes backslashes, GRUB begins with a slash. It refuses what tries to climb
// and what is no text.
func cleanName(name string) (string, bool) {
	var parts []string
	for part := range strings.SplitSeq(strings.ReplaceAll(name, `\`, "/"), "/") {
		switch part {
		case "", ".":
			continue
		case "..":
			return "", false
		}
		parts = append(parts, part)
	}
	clean := strings.Join(parts, "/")
	bad := strings.ContainsFunc(clean, func(r rune) bool { return r < 0x20 || r == 0x7f || r == '\ufffd' })
	return clean, clean != "" && !bad
}
