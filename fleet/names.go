package fleet

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// A MAC is a hardware address in lower-case colon form, "52:54:00:12:34:56".
type MAC string

// ParseMAC reads a 48-bit hardware address in any of the usual forms
// (colons, dashes as iPXE's ${mac:hexhyp}, Cisco's dots) and returns the one
// form that we keep.
func ParseMAC(s string) (MAC, error) {
	if m, ok := usualMAC(s); ok {
		return m, nil
	}
	hw, err := net.ParseMAC(s)
	if err != nil || len(hw) != 6 {
		return "", &Error{Kind: Invalid, On: fmt.Sprintf("MAC %q", clip(s, 40)), Err: fmt.Errorf("not a 48-bit hardware address")}
	}
	return MAC(hw.String()), nil
}

// usualMAC reads the two forms that machines write their addresses in, with
// colons or hyphens: each that asks for its script does.
func usualMAC(s string) (MAC, bool) {
	if len(s) != 17 {
		return "", false
	}
	var text [17]byte
	for i := range len(s) {
		c := s[i]
		switch {
		case i%3 == 2 && c == s[2] && (c == ':' || c == '-'):
			c = ':'
		case i%3 == 2:
			return "", false
		case 'A' <= c && c <= 'F':
			c += 'a' - 'A'
		case (c < '0' || c > '9') && (c < 'a' || c > 'f'):
			return "", false
		}
		text[i] = c
	}
	return MAC(text[:]), true
}

// Hardware returns the six bytes, or nil when m is not a valid address.
func (m MAC) Hardware() net.HardwareAddr {
	hw, err := net.ParseMAC(string(m))
	if err != nil {
		return nil
	}
	return hw
}

// NodeID is the name that a node keeps for life, "n-" and ten hex digits.
type NodeID string

// NewNodeID returns a random NodeID.
func NewNodeID() NodeID { return NodeID("n-" + randomHex(5)) }

// StageName names a stage, such as "prd".
type StageName string

// PoolName names a pool. Pools are unique over all stages.
type PoolName string

// RunID names a run, "<pool>-<number>".
type RunID string

// ImageName names an image in the image store, such as "debian-12".
type ImageName string

// ValidName reports whether s can be a stage, pool, profile or host name:
// a DNS label of lower-case letters, digits and dashes (RFC 1123).
func ValidName(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' {
			return false
		}
	}
	return true
}

// HostLabel returns the host's own part of what a machine calls itself, in
// lower case: "node-7" of "Node-7.example.com". Of what is no name, such as an
// address or text with anything else in it, it returns "".
func HostLabel(s string) string {
	label, domain, _ := strings.Cut(s, ".")
	if len(s) > 255 || strings.ContainsFunc(domain, func(r rune) bool { return !nameRune(r) && r != '.' && r != '_' }) {
		return ""
	}
	if strings.ContainsFunc(label, func(r rune) bool { return !nameRune(r) }) { // before ToLower, which makes a "k" of the kelvin sign
		return ""
	}
	if _, err := netip.ParseAddr(s); err == nil {
		return ""
	}
	if label = strings.ToLower(label); !ValidName(label) {
		return ""
	}
	return strings.Clone(label) // s may be a piece of something long
}

// nameRune reports whether DNS names have this letter, in either case.
func nameRune(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-'
}

// ParseUUID returns s in RFC 9562 lower-case form, or an error. Firmware
// sends the SMBIOS order; [UUIDFromSMBIOS] turns that into this form.
func ParseUUID(s string) (string, error) {
	if isUUID(s) {
		return strings.Clone(s), nil // s may be a piece of something long
	}
	raw, err := hex.DecodeString(strings.ReplaceAll(strings.ToLower(s), "-", ""))
	if err != nil || len(raw) != 16 {
		return "", &Error{Kind: Invalid, On: fmt.Sprintf("UUID %q", clip(s, 40)), Err: fmt.Errorf("not a UUID")}
	}
	return formatUUID([16]byte(raw)), nil
}

// isUUID reports whether s has the form already that UUIDs are kept in.
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case (c < '0' || c > '9') && (c < 'a' || c > 'f'):
			return false
		}
	}
	return true
}

// UUIDFromSMBIOS turns the sixteen bytes of DHCP option 97 or SMBIOS type 1
// (first three fields little-endian, SMBIOS 2.6) into the RFC 9562 form.
func UUIDFromSMBIOS(raw [16]byte) string {
	raw[0], raw[1], raw[2], raw[3] = raw[3], raw[2], raw[1], raw[0]
	raw[4], raw[5] = raw[5], raw[4]
	raw[6], raw[7] = raw[7], raw[6]
	return formatUUID(raw)
}

func formatUUID(b [16]byte) string {
	text := make([]byte, 0, 36)
	for i, part := range [][]byte{b[0:4], b[4:6], b[6:8], b[8:10], b[10:16]} {
		if i > 0 {
			text = append(text, '-')
		}
		text = hex.AppendEncode(text, part)
	}
	return string(text)
}

// CleanText makes a string that a machine said about itself (vendor, serial,
// LLDP text) fit to be kept: no control characters, at most 256 characters.
// Every output still has to escape it: it stays hostile.
func CleanText(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || (r >= 0x80 && r < 0xa0) || r == '\u2028' || r == '\u2029' || r == '\ufffd' {
			return -1
		}
		return r
	}, s)
	return clip(strings.TrimSpace(s), 256)
}

func clip(s string, n int) string {
	runes := []rune(s)
	if len(runes) <= n {
		return s
	}
	return string(runes[:n])
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails since Go 1.24
	return hex.EncodeToString(b)
}
