package main

import (
	"testing"

	"github.com/rackstage/provision/dhcp"
)

func TestCountersHaveTheNamesOfMetrics(t *testing.T) {
	for name, want := range map[string]string{
		"Received": "received", "NoAddress": "no_address", "ACKs": "acks", "NAKs": "naks", "SendError": "send_error",
		"HTTPPort": "http_port",
	} {
		if got := snakeCase(name); got != want {
			t.Errorf("snakeCase(%q) = %q, want %q", name, got, want)
		}
	}
	got := countersOf("provision_dhcp_", dhcp.Stats{NoAddress: 7, Panics: 1})
	if got["provision_dhcp_no_address_total"] != 7 || got["provision_dhcp_panics_total"] != 1 {
		t.Errorf("countersOf = %v", got)
	}
}
