package relay

import (
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// kernels is an address as the kernel tells of it.
func kernels(t *testing.T, text string, flags int) netlink.Addr {
	t.Helper()
	addr, on, err := net.ParseCIDR(text)
	if err != nil {
		t.Fatal(err)
	}
	return netlink.Addr{IPNet: &net.IPNet{IP: addr, Mask: on.Mask}, Flags: flags}
}

func TestAddressesThatMachinesAreToldOf(t *testing.T) {
	tests := map[string]struct {
		addr  string
		flags int
		want  port
	}{
		"of IPv4":                  {"10.78.0.1/24", unix.IFA_F_PERMANENT, port{addr: netip.MustParsePrefix("10.78.0.1/24")}},
		"of IPv6":                  {"fd78::1/64", unix.IFA_F_PERMANENT, port{six: []netip.Prefix{netip.MustParsePrefix("fd78::1/64")}}},
		"of an advertisement":      {"fd78::1/64", unix.IFA_F_MANAGETEMPADDR, port{six: []netip.Prefix{netip.MustParsePrefix("fd78::1/64")}}},
		"for privacy":              {"fd78::1/64", unix.IFA_F_TEMPORARY, port{}},
		"that ends":                {"fd78::1/64", unix.IFA_F_DEPRECATED, port{ending: []netip.Addr{link6}}},
		"that is not to go out":    {"fd78::1/64", unix.IFA_F_DEPRECATED | unix.IFA_F_PERMANENT, port{six: []netip.Prefix{netip.MustParsePrefix("fd78::1/64")}}},
		"in doubt":                 {"fd78::1/64", unix.IFA_F_TENTATIVE | unix.IFA_F_PERMANENT, port{doubtful: []netip.Addr{link6}}},
		"that another machine has": {"fd78::1/64", unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED, port{refused: []netip.Addr{link6}}},
		"of the link":              {"fe80::1/64", unix.IFA_F_PERMANENT, port{}},
		"that nobody gave":         {"169.254.7.7/16", unix.IFA_F_PERMANENT, port{}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got port
			got.take([]netlink.Addr{kernels(t, tt.addr, tt.flags)})
			compare := cmp.AllowUnexported(port{})
			text := cmp.Transformer("text", netip.Addr.String)
			if diff := cmp.Diff(tt.want, got, compare, text, cmp.Transformer("prefix", netip.Prefix.String)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// The kernel lists the newest address first.
func TestAnAddressThatComesDoesNotTakeThePlaceOfOnesThatWereThere(t *testing.T) {
	var p port
	p.take([]netlink.Addr{kernels(t, "10.78.0.1/24", 0), kernels(t, "fd78::1/64", 0)})
	p.take([]netlink.Addr{kernels(t, "10.79.0.1/24", 0), kernels(t, "10.78.0.1/24", 0), kernels(t, "fd79::1/64", 0), kernels(t, "fd78::1/64", unix.IFA_F_TENTATIVE)})
	if got := p.addr.String(); got != "10.78.0.1/24" {
		t.Errorf("IPv4 address %s, want that which was there", got)
	}
	if len(p.six) != 2 || p.six[0].Addr() != link6 {
		t.Errorf("IPv6 addresses %v, want %v first", p.six, link6)
	}
	p.take([]netlink.Addr{kernels(t, "10.79.0.1/24", 0)})
	if got := p.addr.String(); got != "10.79.0.1/24" || len(p.six) != 0 {
		t.Errorf("left are %s and %v, want 10.79.0.1/24 alone", got, p.six)
	}
}
