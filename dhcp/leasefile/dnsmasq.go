package leasefile

import (
	"encoding/hex"
	"net/netip"
	"strconv"
	"strings"

	"github.com/rackstage/provision/fleet"
)

// dnsmasq reads lines of five words: when it ends, hardware address, address,
// name, client identifier; a star where nothing is known. IPv6 leases follow
// after a line with our DUID.
func (s *source) dnsmasq() error {
	for s.next() {
		words := strings.Fields(s.text())
		switch {
		case len(words) == 0, words[0] == "duid":
			continue
		case len(words) < 4 || !isNumber(words[0]):
			return s.fault("not a lease of dnsmasq: %q", clip(s.text()))
		}
		end, err := strconv.ParseInt(words[0], 10, 64)
		if err != nil {
			return s.fault("end of the lease: %q", clip(words[0]))
		}
		addr, err := netip.ParseAddr(words[2])
		if err != nil {
			return s.fault("address: %q", clip(words[2]))
		}
		if !addr.Is4() {
			s.skip(words[2], "not an IPv4 address")
			continue
		}
		lease := fleet.Lease{Addr: addr, MAC: ethernet(words[1]), Hostname: hostname(words[3]), Expires: s.until(end)}
		if end == 0 {
			lease.Expires = s.now.Add(forever)
		}
		if len(words) > 4 {
			lease.ClientID = identifier(words[4])
		}
		if err := s.put(s.line, lease, ""); err != nil {
			return err
		}
	}
	return nil
}

// ethernet reads a hardware address; of other kinds than Ethernet dnsmasq
// writes the kind in front.
func ethernet(s string) fleet.MAC {
	mac, err := fleet.ParseMAC(s)
	if err != nil || strings.Count(s, ":") != 5 {
		return ""
	}
	return mac
}

// identifier reads bytes with colons between them, as hex without.
func identifier(s string) string {
	raw, err := hex.DecodeString(strings.ReplaceAll(s, ":", ""))
	if err != nil || len(raw) == 0 || len(raw) > 255 {
		return ""
	}
	return hex.EncodeToString(raw)
}
