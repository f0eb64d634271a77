package tftp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strconv"
	"strings"
	"time"
)

const (
	opRRQ   = 1
	opWRQ   = 2
	opDATA  = 3
	opACK   = 4
	opERROR = 5
	opOACK  = 6

	maxName = 255
	// maxRequest is more than any request has: name, mode and a few options.
	maxRequest = 1024

	plainBlock = 512 // of who asks for no size
	// maxBlock is an Ethernet frame less IPv4 and UDP headers and the four
	// bytes of a DATA packet. Fragments get lost in firmware.
	maxBlock = 1468
	// maxBlock6 leaves room for the header of IPv6 and one extension.
	maxBlock6 = 1428
	// maxWindow is a burst that one request may draw: 94 KiB.
	maxWindow = 64
	// leastTimeout and mostTimeout are what a client may ask us to wait.
	leastTimeout = 100 * time.Millisecond
	mostTimeout  = 255 * time.Second
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

// An option is one that we grant, as far as its value is ours to choose.
type option struct {
	name  string
	value uint64
}

// option returns the value of an option; 0 when it was not asked for.
func (r request) option(name string) uint64 {
	for _, o := range r.options {
		if o.name == name {
			return o.value
		}
	}
	return 0
}

// timeout returns how long the client wants us to wait before we send again.
func (r request) timeout() time.Duration {
	if us := r.option("utimeout"); us > 0 {
		return time.Duration(us) * time.Microsecond
	}
	return time.Duration(r.option("timeout")) * time.Second
}

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

// knownOptions keeps the options that we grant, in lower case, in the order
// asked, and with values that make sense. RFC 2347: what a server does not
// know or like it leaves out of its answer, and the client goes on without.
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
		if value, ok := grant(name, n); ok {
			kept = append(kept, option{name, value})
		}
	}
	return kept
}

// grant returns what a client gets that asked for n.
func grant(name string, n uint64) (uint64, bool) {
	switch name {
	case "tsize": // RFC 2349: 0 in a read request
		return 0, n == 0
	case "blksize":
		return min(n, maxBlock), n >= plainBlock && n <= 65464
	case "windowsize":
		return min(n, maxWindow), n >= 1 && n <= 65535
	case "timeout": // may not be changed, only granted or not
		return n, n >= 1 && n <= 255
	case "utimeout": // of tftp-hpa: microseconds
		return n, n >= uint64(leastTimeout/time.Microsecond) && n <= uint64(mostTimeout/time.Microsecond)
	}
	return 0, false
}

// bytes writes the request in the one form that pin understands.
func (r request) bytes() []byte {
	b := []byte{0, opRRQ}
	for _, s := range []string{r.name, r.mode} {
		b = append(append(b, s...), 0)
	}
	for _, o := range r.options {
		if o.name == "tsize" || o.name == "blksize" {
			b = appendOption(b, o.name, o.value)
		}
	}
	return b
}

func appendOption(b []byte, name string, value uint64) []byte {
	b = append(append(b, name...), 0)
	return append(strconv.AppendUint(b, value, 10), 0)
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
