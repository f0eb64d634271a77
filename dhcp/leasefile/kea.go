package leasefile

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rackstage/provision/fleet"
)

// keaColumns are those of Kea's file that we read, of DHCPv6 or of DHCPv4. Its
// first line names them.
func keaColumns(six bool) []string {
	if six {
		return []string{"address", "duid", "valid_lifetime", "expire", "lease_type", "iaid", "hwaddr", "state"}
	}
	return []string{"address", "hwaddr", "client_id", "valid_lifetime", "expire", "hostname", "state"}
}

// A keaLine is a line of values, by the name of their columns.
type keaLine struct {
	at    map[string]int
	cells []string
}

func (l keaLine) get(name string) string {
	if i, ok := l.at[name]; ok && i < len(l.cells) {
		return strings.ReplaceAll(l.cells[i], "&#x2c", ",")
	}
	return ""
}

// kea reads Kea's memfile: comma-separated values; commas within are written as
// an entity.
func (s *source) kea() error {
	var at map[string]int
	var columns []string
	six := false
	for s.next() {
		text := s.text()
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		cells := strings.Split(text, ",")
		if at == nil {
			six = slices.Contains(cells, "duid")
			columns = keaColumns(six)
			var err error
			if at, err = s.keaHeader(cells, columns); err != nil {
				return err
			}
			continue
		}
		if len(cells) < len(columns) {
			return s.fault("%d values, want at least %d", len(cells), len(columns))
		}
		read := s.keaLease
		if six {
			read = s.keaLease6
		}
		if err := read(keaLine{at, cells}); err != nil {
			return err
		}
	}
	if at == nil {
		return s.fault("the line that names the columns is missing")
	}
	return nil
}

func (s *source) keaHeader(cells, columns []string) (map[string]int, error) {
	at := map[string]int{}
	for i, c := range cells {
		at[c] = i
	}
	for _, c := range columns {
		if _, ok := at[c]; !ok {
			return nil, s.fault("no column %q; want: %s", c, strings.Join(columns, ", "))
		}
	}
	return at, nil
}

func (s *source) keaLease(l keaLine) error {
	addr, err := netip.ParseAddr(l.get("address"))
	if err != nil || !addr.Is4() {
		return s.fault("address: %q", clip(l.get("address")))
	}
	ends, why, err := s.keaTerm(l)
	if err != nil {
		return err
	}
	return s.put(s.line, fleet.Lease{
		Addr: addr, MAC: ethernet(l.get("hwaddr")), ClientID: identifier(l.get("client_id")), Hostname: fleet.HostLabel(l.get("hostname")), Expires: ends,
	}, why)
}

func (s *source) keaLease6(l keaLine) error {
	addr, ok := address6(l.get("address"))
	if !ok {
		return s.fault("address: %q", clip(l.get("address")))
	}
	iaid, err := strconv.ParseUint(l.get("iaid"), 10, 32)
	if err != nil {
		return s.fault("IAID: %q", clip(l.get("iaid")))
	}
	ends, why, err := s.keaTerm(l)
	if err != nil {
		return err
	}
	switch l.get("lease_type") {
	case "0":
	case "1":
		why = "temporary"
	case "2":
		s.skip(l.get("address")+"/"+l.get("prefix_len"), "a prefix")
		return nil
	default:
		return s.fault("type: %q", clip(l.get("lease_type")))
	}
	return s.put6(s.line, fleet.Lease6{Addr: addr, DUID: duid(l.get("duid")), IAID: uint32(iaid), MAC: ethernet(l.get("hwaddr")), Expires: ends}, why)
}

// keaTerm reads until when a lease stands, or why it does not.
func (s *source) keaTerm(l keaLine) (ends time.Time, why string, err error) {
	end, err := strconv.ParseInt(l.get("expire"), 10, 64)
	if err != nil {
		return ends, "", s.fault("end of the lease: %q", clip(l.get("expire")))
	}
	life := l.get("valid_lifetime")
	if !isNumber(life) {
		return ends, "", s.fault("lifetime: %q", clip(life))
	}
	ends = s.until(end)
	if life == "4294967295" {
		ends = s.now.Add(forever)
	}
	reasons := map[string]string{"0": "", "1": "declined", "2": "expired"}
	why, known := reasons[l.get("state")]
	switch {
	case !known && slices.Contains([]string{"", "3", "4"}, l.get("state")):
		why = "released, or registered only"
	case !known:
		return ends, "", s.fault("state: %q", clip(l.get("state")))
	case life == "0":
		why = "released"
	}
	return ends, why, nil
}
