package fleet

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// rangesOf reads "10.0.0.1-10.0.0.9, fd77::1-fd77::9".
func rangesOf(t *testing.T, text string) (ranges []AddrRange) {
	t.Helper()
	for part := range strings.SplitSeq(text, ", ") {
		if part == "" {
			continue
		}
		first, last, _ := strings.Cut(part, "-")
		ranges = append(ranges, AddrRange{First: netip.MustParseAddr(first), Last: netip.MustParseAddr(last)})
	}
	return ranges
}

func TestExcludedAddressesAreTakenOutOfRanges(t *testing.T) {
	tests := map[string]struct{ ranges, others, want string }{
		"none are":              {"10.0.0.10-10.0.0.20", "10.0.1.0-10.0.1.9", "10.0.0.10-10.0.0.20"},
		"one in the middle":     {"10.0.0.10-10.0.0.20", "10.0.0.15-10.0.0.15", "10.0.0.10-10.0.0.14, 10.0.0.16-10.0.0.20"},
		"both ends":             {"10.0.0.10-10.0.0.20", "10.0.0.18-10.0.0.30, 10.0.0.1-10.0.0.10", "10.0.0.11-10.0.0.17"},
		"all":                   {"10.0.0.10-10.0.0.20", "10.0.0.0-10.0.0.255", ""},
		"what overlaps":         {"10.0.0.10-10.0.0.20", "10.0.0.12-10.0.0.14, 10.0.0.13-10.0.0.18", "10.0.0.10-10.0.0.11, 10.0.0.19-10.0.0.20"},
		"ranges come in order":  {"10.0.0.30-10.0.0.40, 10.0.0.10-10.0.0.20", "", "10.0.0.10-10.0.0.20, 10.0.0.30-10.0.0.40"},
		"to the last address":   {"255.255.255.0-255.255.255.255", "255.255.255.9-255.255.255.255, 255.255.255.255-255.255.255.255", "255.255.255.0-255.255.255.8"},
		"IPv6":                  {"fd77::-fd77::ffff:ffff:ffff:ffff", "fd77::1000-fd77::ffff:ffff", "fd77::-fd77::fff, fd77::1:0:0-fd77::ffff:ffff:ffff:ffff"},
		"backwards is no range": {"10.0.0.20-10.0.0.10, fd77::1-10.0.0.1", "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, r := range Without(rangesOf(t, tt.ranges), rangesOf(t, tt.others)) {
				got = append(got, fmt.Sprintf("%s-%s", r.First, r.Last))
			}
			if strings.Join(got, ", ") != tt.want {
				t.Errorf("%s without %s = %q, want %q", tt.ranges, tt.others, got, tt.want)
			}
		})
	}
}
