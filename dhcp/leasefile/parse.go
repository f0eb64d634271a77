package leasefile

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/rackstage/provision/fleet"
)

// A Format is who writes files of this kind.
type Format string

// The formats.
const (
	Dnsmasq Format = "dnsmasq"
	ISC     Format = "isc"
	Kea     Format = "kea"
)

// Formats returns all of them.
func Formats() []Format { return []Format{Dnsmasq, ISC, Kea} }

// A File is what was read.
type File struct {
	Format  Format
	Leases  []fleet.Lease  // by address; Subnet is empty
	Leases6 []fleet.Lease6 // by address; Subnet is empty, and MAC where the file does not say it
	Skipped []Skipped      // of what a file says last about an address
}

// A Skipped is an entry that is no lease for us.
type Skipped struct {
	Line   int
	What   string // the address, or how the line begins; hostile text
	Reason string
}

const (
	maxLine    = 64 << 10
	maxEntries = 4 << 20 // different addresses

	// Forever is when leases end that never end.
	forever = 100 * 365 * 24 * time.Hour
)

// Parse reads a file. A format of "" is found out.
func Parse(r io.Reader, format Format, now time.Time) (File, error) {
	s := &source{lines: bufio.NewScanner(r), now: now, last: map[netip.Addr]entry{}}
	s.lines.Buffer(make([]byte, 0, 4096), maxLine)
	if format == "" {
		var err error
		if format, err = s.detect(); err != nil {
			return File{}, err
		}
	}
	readers := map[Format]func(*source) error{Dnsmasq: (*source).dnsmasq, ISC: (*source).isc, Kea: (*source).kea}
	read, ok := readers[format]
	if !ok {
		return File{}, fmt.Errorf("unknown format %q; use one of: dnsmasq, isc, kea", format)
	}
	if err := read(s); err != nil {
		return File{}, err
	}
	if err := s.lines.Err(); err != nil {
		return File{}, s.fault("%w", err)
	}
	return s.file(format), nil
}

// A source is a file that is being read.
type source struct {
	lines  *bufio.Scanner
	line   int
	peeked bool
	now    time.Time
	last   map[netip.Addr]entry
	others []Skipped // that have no address
}

// An entry is what the file says last about an address: a lease of IPv4, one of
// IPv6, or why there is none.
type entry struct {
	lease fleet.Lease
	six   *fleet.Lease6
	line  int
	why   string
}

// next moves on to the next line.
func (s *source) next() bool {
	if s.peeked {
		s.peeked = false
		return true
	}
	if !s.lines.Scan() {
		return false
	}
	s.line++
	return true
}

func (s *source) text() string { return strings.TrimSpace(s.lines.Text()) }

func (s *source) fault(format string, args ...any) error {
	return fmt.Errorf("line %d: %w", s.line, fmt.Errorf(format, args...))
}

// detect looks at the first line that says something.
func (s *source) detect() (Format, error) {
	for s.next() {
		text := s.text()
		word, rest, _ := strings.Cut(text, " ")
		switch {
		case text == "":
			continue
		case strings.HasPrefix(text, "address,"):
			s.peeked = true
			return Kea, nil
		case word == "duid", isNumber(word) && len(strings.Fields(rest)) >= 3:
			s.peeked = true
			return Dnsmasq, nil
		case strings.HasPrefix(text, "#"), slices.Contains(iscWords(), word):
			s.peeked = true
			return ISC, nil
		}
		return "", s.fault("not a lease file of dnsmasq, ISC dhcpd or Kea: it begins with %q", clip(text))
	}
	if err := s.lines.Err(); err != nil {
		return "", s.fault("%w", err)
	}
	return "", errors.New("the file is empty")
}

// put notes what an entry says; a later one replaces it.
func (s *source) put(line int, lease fleet.Lease, why string) error {
	if why == "" && lease.MAC == "" && lease.Expires.After(s.now) {
		why = "without the address of an Ethernet card"
	}
	lease.State = fleet.LeaseBound
	return s.note(lease.Addr, lease.Expires, entry{lease: lease, line: line, why: why})
}

// put6 is put for IPv6.
func (s *source) put6(line int, lease fleet.Lease6, why string) error {
	if why == "" && lease.DUID == "" && lease.Expires.After(s.now) {
		why = "without a DUID"
	}
	lease.State = fleet.LeaseBound
	return s.note(lease.Addr, lease.Expires, entry{six: &lease, line: line, why: why})
}

func (s *source) note(addr netip.Addr, ends time.Time, e entry) error {
	if _, known := s.last[addr]; !known && len(s.last) >= maxEntries {
		return s.fault("more than %d addresses", maxEntries)
	}
	if e.why == "" && !ends.After(s.now) {
		e.why = "expired"
	}
	s.last[addr] = e
	return nil
}

// skip notes a line without an address for a machine.
func (s *source) skip(what, why string) {
	if len(s.others) < 1000 {
		s.others = append(s.others, Skipped{Line: s.line, What: clip(what), Reason: why})
	}
}

func (s *source) file(format Format) File {
	f := File{Format: format, Skipped: s.others}
	for addr, e := range s.last {
		switch {
		case e.why != "":
			f.Skipped = append(f.Skipped, Skipped{Line: e.line, What: addr.String(), Reason: e.why})
		case e.six != nil:
			f.Leases6 = append(f.Leases6, *e.six)
		default:
			f.Leases = append(f.Leases, e.lease)
		}
	}
	slices.SortFunc(f.Leases, func(a, b fleet.Lease) int { return a.Addr.Compare(b.Addr) })
	slices.SortFunc(f.Leases6, func(a, b fleet.Lease6) int { return a.Addr.Compare(b.Addr) })
	slices.SortFunc(f.Skipped, func(a, b Skipped) int { return cmp.Or(a.Line-b.Line, strings.Compare(a.What, b.What)) })
	return f
}

func isNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// clip makes what a file says fit for a message.
func clip(s string) string {
	s = fleet.CleanText(strings.ToValidUTF8(s, ""))
	return s[:min(len(s), 60)]
}

// address6 reads an IPv6 address that a machine can have.
func address6(s string) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(s)
	return addr, err == nil && addr.Is6() && !addr.Is4In6() && addr.Zone() == ""
}

// duid reads a DUID with colons between its bytes (RFC 8415 §11.1); "" for
// what can be none.
func duid(s string) string {
	id := identifier(s)
	if n := len(id) / 2; n < 3 || n > 130 {
		return ""
	}
	return id
}

// until is when a lease ends, given as seconds since 1970.
func (s *source) until(seconds int64) time.Time {
	at := time.Unix(seconds, 0).UTC()
	if limit := s.now.Add(forever); at.After(limit) {
		return limit
	}
	return at
}
