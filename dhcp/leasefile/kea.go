package leasefile

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/rackstage/provision/fleet"
)

// Columns of Kea's file that we read. Its first line names them.
var keaColumns = []string{"address", "hwaddr", "client_id", "valid_lifetime", "expire", "hostname", "state"}

// kea reads Kea's memfile: comma-separated values; commas within are written as
// an entity.
func (s *source) kea() error {
	var at map[string]int
	for s.next() {
		text := s.text()
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		cells := strings.Split(text, ",")
		if at == nil {
			var err error
			if at, err = s.keaHeader(cells); err != nil {
				return err
			}
			continue
		}
		if len(cells) < len(keaColumns) {
			return s.fault("%d values, want at least %d", len(cells), len(keaColumns))
		}
		if err := s.keaLease(cells, at); err != nil {
			return err
		}
	}
	if at == nil {
		return s.fault("the line that names the columns is missing")
	}
	return nil
}

func (s *source) keaHeader(cells []string) (map[string]int, error) {
	at := map[string]int{}
	for i, c := range cells {
		at[c] = i
	}
	if _, six := at["duid"]; six {
		return nil, s.fault("this is a lease file of DHCPv6")
	}
	for _, c := range keaColumns {
		if _, ok := at[c]; !ok {
			return nil, s.fault("no column %q; want: %s", c, strings.Join(keaColumns, ", "))
		}
	}
	return at, nil
}

func (s *source) keaLease(cells []string, at map[string]int) error {
	cell := func(name string) string {
		if i := at[name]; i < len(cells) {
			return strings.ReplaceAll(cells[i], "&#x2c", ",")
		}
		return ""
	}
	addr, err := netip.ParseAddr(cell("address"))
	if err != nil || !addr.Is4() {
		return s.fault("address: %q", clip(cell("address")))
	}
	end, err := strconv.ParseInt(cell("expire"), 10, 64)
	if err != nil {
		return s.fault("end of the lease: %q", clip(cell("expire")))
	}
	life := cell("valid_lifetime")
	if !isNumber(life) {
		return s.fault("lifetime: %q", clip(life))
	}
	lease := fleet.Lease{
		Addr: addr, MAC: ethernet(cell("hwaddr")), ClientID: identifier(cell("client_id")), Hostname: hostname(cell("hostname")), Expires: s.until(end),
	}
	if life == "4294967295" {
		lease.Expires = s.now.Add(forever)
	}
	reasons := map[string]string{"0": "", "1": "declined", "2": "expired"}
	why, known := reasons[cell("state")]
	switch {
	case !known && slices.Contains([]string{"", "3", "4"}, cell("state")):
		why = "released, or registered only"
	case !known:
		return s.fault("state: %q", clip(cell("state")))
	case life == "0":
		why = "released"
	}
	return s.put(s.line, lease, why)
}
