package leasefile

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/rackstage/provision/fleet"
)

// iscWords begin files of dhcpd.
func iscWords() []string {
	return []string{"lease", "ia-na", "ia-ta", "ia-pd", "authoring-byte-order", "server-duid", "default-duid", "host", "failover"}
}

// An iscReader reads dhcpd.leases and dhcpd6.leases (dhcpd.leases(5)): blocks of
// statements. Each change of a lease is appended as a whole. Blocks of other
// kinds, and statements that we have no use for, are passed over.
type iscReader struct {
	*source
	order binary.ByteOrder // of IAIDs
	depth int
	ia    *iscAssociation // whose block is open
	lease *iscLease       // whose block is open
}

// An iscAssociation is what an IPv6 lease is given to.
type iscAssociation struct {
	kind string // ia-na, ia-ta: temporary, ia-pd: prefixes
	iaid uint32
	duid string
}

// An iscLease is a block that is being read.
type iscLease struct {
	fleet.Lease
	ia    *iscAssociation // of IPv6
	line  int
	depth int
	state string
}

func (s *source) isc() error {
	r := &iscReader{source: s, order: binary.LittleEndian}
	for s.next() {
		text := s.text()
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		var err error
		switch {
		case strings.HasSuffix(text, "{"):
			err = r.opens(text)
			r.depth++
		case text == "}":
			err = r.closes()
		case r.lease != nil && r.depth == r.lease.depth+1:
			err = r.lease.statement(s, text)
		case text == "authoring-byte-order big-endian;":
			r.order = binary.BigEndian
		}
		if err != nil {
			return err
		}
	}
	if r.depth > 0 {
		// dhcpd was killed, or the file was copied, while it was written: what
		// is whole counts.
		s.skip("the last block", "not whole")
	}
	return nil
}

func (r *iscReader) opens(text string) error {
	words := strings.Fields(text)
	switch {
	case r.depth == 0 && words[0] == "lease" && len(words) == 3:
		addr, err := netip.ParseAddr(words[1])
		if err != nil || !addr.Is4() {
			return r.fault("address: %q", clip(words[1]))
		}
		r.lease = &iscLease{line: r.line, Lease: fleet.Lease{Addr: addr}, state: "active"}
	case r.depth == 0 && strings.HasPrefix(words[0], "ia-"):
		id := strings.TrimPrefix(strings.TrimSuffix(text, "{"), words[0])
		raw := iscBytes(strings.TrimSpace(id))
		if len(raw) < 4 {
			return r.fault("association: %q", clip(id))
		}
		r.ia = &iscAssociation{kind: words[0], iaid: r.order.Uint32(raw), duid: duid(hex.EncodeToString(raw[4:]))}
	case r.depth == 1 && r.ia != nil && words[0] == "iaaddr" && len(words) == 3:
		addr, ok := address6(words[1])
		if !ok {
			return r.fault("address: %q", clip(words[1]))
		}
		r.lease = &iscLease{line: r.line, Lease: fleet.Lease{Addr: addr}, ia: r.ia, depth: r.depth, state: "active"}
	case r.depth == 1 && r.ia != nil && words[0] == "iaprefix" && len(words) == 3:
		r.skip(words[1], "a prefix")
	}
	return nil
}

func (r *iscReader) closes() error {
	if r.depth == 0 {
		return r.fault("a block ends that never began")
	}
	if r.depth--; r.depth == 0 {
		r.ia = nil
	}
	l := r.lease
	if l == nil || r.depth != l.depth {
		return nil
	}
	r.lease = nil
	if l.ia == nil {
		return r.put(l.line, l.Lease, l.why())
	}
	return r.put6(l.line, fleet.Lease6{Addr: l.Addr, DUID: l.ia.duid, IAID: l.ia.iaid, Expires: l.Expires}, l.why())
}

func (l *iscLease) why() string {
	switch {
	case l.state != "active":
		return l.state
	case l.Expires.IsZero():
		return "without an end"
	case l.ia != nil && l.ia.kind == "ia-ta":
		return "temporary"
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
		l.Hostname = fleet.HostLabel(strings.Trim(value, `"`))
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

// iscIdentifier reads bytes in hex with colons, or a string.
func iscIdentifier(text string) string {
	if !strings.HasPrefix(text, `"`) {
		return identifier(text)
	}
	raw := iscBytes(text)
	if len(raw) == 0 || len(raw) > 255 {
		return ""
	}
	return hex.EncodeToString(raw)
}

// iscBytes reads a string in which what does not print is an octal escape.
func iscBytes(text string) (raw []byte) {
	inner := strings.TrimSuffix(strings.TrimPrefix(text, `"`), `"`)
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
	return raw
}
