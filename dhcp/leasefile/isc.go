package leasefile

import (
	"encoding/hex"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/rackstage/provision/fleet"
)

// isc reads dhcpd.leases (dhcpd.leases(5)): blocks of statements. Each change
// of a lease is appended as a whole. Blocks of other kinds, and statements that
// we have no use for, are passed over.
func (s *source) isc() error {
	depth := 0
	var lease *iscLease
	for s.next() {
		text := s.text()
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		words := strings.Fields(text)
		opens, closes := strings.HasSuffix(text, "{"), text == "}"
		switch {
		case opens && depth == 0 && words[0] == "lease" && len(words) == 3:
			addr, err := netip.ParseAddr(words[1])
			if err != nil || !addr.Is4() {
				return s.fault("address: %q", clip(words[1]))
			}
			lease = &iscLease{line: s.line, Lease: fleet.Lease{Addr: addr}, state: "active"}
			depth++
		case opens:
			depth++
		case closes && depth == 0:
			return s.fault("a block ends that never began")
		case closes:
			depth--
			if depth == 0 && lease != nil {
				if err := s.put(lease.line, lease.Lease, lease.why()); err != nil {
					return err
				}
				lease = nil
			}
		case depth == 1 && lease != nil:
			if err := lease.statement(s, text); err != nil {
				return err
			}
		}
	}
	if depth > 0 {
		// dhcpd was killed, or the file was copied, while it was written: what
		// is whole counts.
		s.skip("the last block", "not whole")
	}
	return nil
}

// An iscLease is a block that is being read.
type iscLease struct {
	fleet.Lease
	line  int
	state string
}

func (l *iscLease) why() string {
	switch {
	case l.state != "active":
		return l.state
	case l.Expires.IsZero():
		return "without an end"
	}
	return ""
}

func (l *iscLease) statement(s *source, text string) (err error) {
	end := strings.Index(text, ";")
	if strings.HasPrefix(text, "uid ") {
		end = strings.LastIndex(text, ";") // one may be in the string
	}
	if end < 0 {
		return nil // goes on in the next line: none of ours does
	}
	text = text[:end]
	switch key, value, _ := strings.Cut(text, " "); key {
	case "ends":
		l.Expires, err = s.iscTime(value)
	case "binding":
		if state, found := strings.CutPrefix(value, "state "); found {
			l.state = clip(state)
		}
	case "hardware":
		if mac, found := strings.CutPrefix(value, "ethernet "); found {
			l.MAC = ethernet(mac)
		}
	case "client-hostname":
		l.Hostname = hostname(strings.Trim(value, `"`))
	case "uid":
		l.ClientID = iscIdentifier(value)
	}
	return err
}

// iscTime reads "4 2026/11/20 10:00:00", "epoch 1795168800" or "never".
func (s *source) iscTime(text string) (time.Time, error) {
	words := strings.Fields(text)
	switch {
	case len(words) == 1 && words[0] == "never":
		return s.now.Add(forever), nil
	case len(words) == 2 && words[0] == "epoch":
		if n, err := strconv.ParseInt(words[1], 10, 64); err == nil {
			return s.until(n), nil
		}
	case len(words) == 3:
		if at, err := time.Parse("2006/01/02 15:04:05", words[1]+" "+words[2]); err == nil {
			return s.until(at.Unix()), nil
		}
	}
	return time.Time{}, s.fault("time: %q", clip(text))
}

// iscIdentifier reads bytes in hex with colons, or a string in which what does
// not print is an octal escape.
func iscIdentifier(text string) string {
	inner, quoted := strings.CutPrefix(text, `"`)
	if !quoted {
		return identifier(text)
	}
	inner = strings.TrimSuffix(inner, `"`)
	var raw []byte
	for i := 0; i < len(inner); i++ {
		if inner[i] == '\\' && i+3 < len(inner) {
			if n, err := strconv.ParseUint(inner[i+1:i+4], 8, 8); err == nil {
				raw = append(raw, byte(n))
				i += 3
				continue
			}
		}
		if inner[i] == '\\' && i+1 < len(inner) {
			i++
		}
		raw = append(raw, inner[i])
	}
	if len(raw) == 0 || len(raw) > 255 {
		return ""
	}
	return hex.EncodeToString(raw)
}
