package leasefile

import (
	"encoding/hex"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/rackstage/provision/fleet"
)

// dnsmasq reads lines of five words: when it ends, hardware address, address,
// name, client identifier; a star where nothing is known. After a line with its
// own DUID those of IPv6 follow, with the IAID as hardware address and the DUID
// as client identifier.
func (s *source) dnsmasq() error {
	six := false
	for s.next() {
		words := strings.Fields(s.text())
		switch {
		case len(words) == 0:
			continue
		case words[0] == "duid":
			six = true
			continue
		case len(words) < 4 || !isNumber(words[0]):
			return s.fault("not a lease of dnsmasq: %q", clip(s.text()))
		}
		end, err := strconv.ParseInt(words[0], 10, 64)
		if err != nil {
			return s.fault("end of the lease: %q", clip(words[0]))
		}
		ends := s.until(end)
		if end == 0 {
			ends = s.now.Add(forever)
		}
		read := s.dnsmasq4
		if six {
			read = s.dnsmasq6
		}
		if err := read(words, ends); err != nil {
			return err
		}
	}
	return nil
}

func (s *source) dnsmasq4(words []string, ends time.Time) error {
	addr, err := netip.ParseAddr(words[2])
	if err != nil || !addr.Is4() {
		return s.fault("address: %q", clip(words[2]))
	}
	lease := fleet.Lease{Addr: addr, MAC: ethernet(words[1]), Hostname: fleet.HostLabel(words[3]), Expires: ends}
	if len(words) > 4 {
		lease.ClientID = identifier(words[4])
	}
	return s.put(s.line, lease, "")
}

func (s *source) dnsmasq6(words []string, ends time.Time) error {
	addr, ok := address6(words[2])
	if !ok {
		return s.fault("address: %q", clip(words[2]))
	}
	iaid, temporary := strings.CutPrefix(words[1], "T")
	number, err := strconv.ParseUint(iaid, 10, 32)
	if err != nil {
		return s.fault("IAID: %q", clip(words[1]))
	}
	lease, why := fleet.Lease6{Addr: addr, IAID: uint32(number), Expires: ends}, ""
	if len(words) > 4 {
		lease.DUID = duid(words[4])
	}
	if temporary {
		why = "temporary"
	}
	return s.put6(s.line, lease, why)
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
