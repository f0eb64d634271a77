package main

import (
	"testing"

	"github.com/rackstage/provision/dhcp"
	"github.com/rackstage/provision/pxe/tftp"
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
	got = countersOf("provision_tftp_", tftp.Stats{Running: 3, Done: 4})
	if _, total := got["provision_tftp_running_total"]; total || got["provision_tftp_running"] != 3 || got["provision_tftp_done_total"] != 4 {
		t.Errorf("countersOf = %v, want that what runs now is no total", got)
	}
}
