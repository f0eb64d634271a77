package fleet_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/rackstage/provision/fleet"
)

func subnet6(change func(*fleet.Subnet)) fleet.Site {
	n := fleet.Subnet{
		Name: "rack6", CIDR: netip.MustParsePrefix("fd77::/64"), Mode: fleet.Full,
		Ranges: []fleet.AddrRange{{First: netip.MustParseAddr("fd77::100"), Last: netip.MustParseAddr("fd77::ffff")}},
		DNS:    []netip.Addr{netip.MustParseAddr("fd77::53")}, Router: netip.MustParseAddr("fd77::1"), MTU: 1500,
	}
	change(&n)
	v4 := fleet.Subnet{Name: "rack", CIDR: netip.MustParsePrefix("10.77.0.0/24"), Mode: fleet.Observe}
	return fleet.Site{Subnets: []fleet.Subnet{v4, n}}
}

func TestAnIPv6SubnetIsCheckedAsOne(t *testing.T) {
	four := netip.MustParseAddr("10.77.0.1")
	tests := map[string]struct {
		change func(*fleet.Subnet)
		want   string // "" when it is right
	}{
		"a whole one, beside IPv4":        {func(*fleet.Subnet) {}, ""},
		"a router of the other family":    {func(n *fleet.Subnet) { n.Router = four }, "subnets[1].router"},
		"a name server of the other":      {func(n *fleet.Subnet) { n.DNS = []netip.Addr{four} }, "subnets[1].dns"},
		"there is no ProxyDHCP":           {func(n *fleet.Subnet) { n.Mode = fleet.Proxy }, "subnets[1].mode"},
		"no addresses of one's own in 96": {func(n *fleet.Subnet) { n.SLAAC = true; n.CIDR = netip.MustParsePrefix("fd77::/96") }, "subnets[1].slaac"},
		"nor in IPv4": {
			func(n *fleet.Subnet) {
				*n = fleet.Subnet{Name: "x", CIDR: netip.MustParsePrefix("10.78.0.0/24"), Mode: fleet.Observe, SLAAC: true}
			}, "subnets[1].slaac",
		},
		"link-local is no subnet": {func(n *fleet.Subnet) {
			*n = fleet.Subnet{Name: "x", CIDR: netip.MustParsePrefix("fe80::/64"), Mode: fleet.Observe}
		}, "subnets[1].cidr"},
		"a relay":                     {func(n *fleet.Subnet) { n.Relays = []netip.Addr{netip.MustParseAddr("fd70::1")} }, ""},
		"a relay of the other family": {func(n *fleet.Subnet) { n.Relays = []netip.Addr{four} }, "subnets[1].relays"},
		"a relay of one wire only":    {func(n *fleet.Subnet) { n.Relays = []netip.Addr{netip.MustParseAddr("fe80::1")} }, "subnets[1].relays"},
		"other servers that belong there": {func(n *fleet.Subnet) {
			n.KnownDHCP, n.KnownDUIDs = []netip.Addr{netip.MustParseAddr("fe80::1"), four}, []string{"0003000152540012abcd"}
		}, ""},
		"a server that is a group":  {func(n *fleet.Subnet) { n.KnownDHCP = []netip.Addr{netip.MustParseAddr("ff02::1:2")} }, "subnets[1].known_dhcp"},
		"a DUID of nothing":         {func(n *fleet.Subnet) { n.KnownDUIDs = []string{"00"} }, "subnets[1].known_dhcp"},
		"a DUID that is no hex":     {func(n *fleet.Subnet) { n.KnownDUIDs = []string{"duid"} }, "subnets[1].known_dhcp"},
		"parameters of a boot file": {func(n *fleet.Subnet) { n.BootParams = []string{"console=ttyS0", "quiet"} }, ""},
		"an empty parameter":        {func(n *fleet.Subnet) { n.BootParams = []string{"quiet", ""} }, "subnets[1].boot_params[1]"},
		"a parameter of two lines":  {func(n *fleet.Subnet) { n.BootParams = []string{"a\nb"} }, "subnets[1].boot_params[0]"},
		"too long parameters":       {func(n *fleet.Subnet) { n.BootParams = slices.Repeat([]string{strings.Repeat("a", 200)}, 3) }, "subnets[1].boot_params"},
		"too many parameters":       {func(n *fleet.Subnet) { n.BootParams = strings.Split(strings.Repeat("a", 17), "") }, "subnets[1].boot_params"},
		"parameters in IPv4": {func(n *fleet.Subnet) {
			*n = fleet.Subnet{Name: "x", CIDR: netip.MustParsePrefix("10.78.0.0/24"), Mode: fleet.Observe, BootParams: []string{"a"}}
		}, "subnets[1].boot_params"},
		"too small an MTU":           {func(n *fleet.Subnet) { n.MTU = 600 }, "subnets[1].mtu"},
		"options are DHCPv4's":       {func(n *fleet.Subnet) { n.Options = []fleet.DHCPOption{{Code: 128}} }, "subnets[1].options"},
		"a range of another network": {func(n *fleet.Subnet) { n.Ranges[0].Last = netip.MustParseAddr("fd78::1") }, "subnets[1].ranges"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := subnet6(tt.change).Validate()
			if tt.want == "" && err != nil {
				t.Errorf("Validate = %v, want none", err)
			}
			if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("Validate = %v, want a fault at %s", err, tt.want)
			}
		})
	}
}
