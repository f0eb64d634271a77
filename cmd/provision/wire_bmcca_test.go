package main

import (
	"testing"

	"github.com/rackstage/provision/fleet"
)

// Whoever is at an address that a node's BMC is said to have got, and is not
// known there yet, has to show the certificate that is known.
func TestNobodyVouchesForABMCAtAnotherAddress(t *testing.T) {
	tests := map[string]struct {
		bmc     fleet.BMC
		trusted bool
	}{
		"at its own":                         {fleet.BMC{Address: "10.77.1.11", Pin: "aa"}, true},
		"at another":                         {fleet.BMC{Address: "10.77.1.66", Pin: "aa"}, false},
		"at another, when nothing was known": {fleet.BMC{Address: "10.77.1.66"}, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var at, seen string
			p := bmcPower{
				site: func() fleet.Site { return fleet.Site{BMCCA: []fleet.Authority{{File: "ca.pem"}}} },
				node: func(string) (fleet.Node, error) {
					return fleet.Node{ID: "n-1", BMC: fleet.BMC{Address: "10.77.1.11", Pin: "aa"}}, nil
				},
				renew: func(_ fleet.NodeID, addr, pin string) error {
					at, seen = addr, pin
					return nil
				},
			}
			trust := p.trust(fleet.Node{ID: "n-1", BMC: tt.bmc})
			if (trust != nil) != tt.trusted {
				t.Fatalf("trust is %+v, want some: %t", trust, tt.trusted)
			}
			if trust == nil {
				return
			}
			if trust.Renewed("cc"); at != tt.bmc.Address || seen != "cc" {
				t.Errorf("told of %q at %q, want cc at %s", seen, at, tt.bmc.Address)
			}
		})
	}
}
