package main

import (
	"net/netip"
	"testing"
)

func TestWhichAddressesAreOfThisServer(t *testing.T) {
	a := addresses{advertise{Address: "192.0.2.1", Names: []string{"pxe.example", "192.0.2.2"}}}
	tests := map[string]struct {
		addr string
		want bool
	}{
		"of an interface":                 {"127.0.0.1", true},
		"of an interface, as IPv6 has it": {"::ffff:127.0.0.1", true},
		"which machines reach it by":      {"192.0.2.1", true},
		"in its certificate":              {"192.0.2.2", true},
		"somebody else's":                 {"192.0.2.3", false},
		"somebody else's, of its network": {"127.0.0.2", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := a.Own(netip.MustParseAddr(tt.addr)); got != tt.want {
				t.Errorf("Own(%s) = %t, want %t", tt.addr, got, tt.want)
			}
		})
	}
}
