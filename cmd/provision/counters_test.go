package main

import (
	"maps"
	"os"
	"regexp"
	"testing"

	"github.com/rackstage/provision/access"
	"github.com/rackstage/provision/dhcp"
	"github.com/rackstage/provision/dhcp/dhcp6"
	"github.com/rackstage/provision/dhcp/foreign"
	"github.com/rackstage/provision/fleet"
	httpd "github.com/rackstage/provision/http"
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

func TestCountersOfRelaysAreNamedByTheirProtocol(t *testing.T) {
	got := countersOf("provision_relay_", access.RelayTotals{
		Refused: 1, TFTP: fleet.RelayTFTP{Strangers: 2}, HTTP: fleet.RelayHTTP{HeadersTooLarge: 3}, Silent: 4,
	})
	for name, want := range map[string]int64{
		"refused_total": 1, "tftp_strangers_total": 2, "http_headers_too_large_total": 3, "silent": 4,
	} {
		if got["provision_relay_"+name] != want {
			t.Errorf("%s is %d, want %d, in %v", name, got["provision_relay_"+name], want, got)
		}
	}
}

func TestThePageOfLimitsNamesCountersThatThereAre(t *testing.T) {
	all := countersOf("dhcp_", dhcp.Stats{})
	maps.Copy(all, countersOf("dhcp6_", dhcp6.Stats{}))
	maps.Copy(all, countersOf("dhcp_foreign_", foreign.Stats{}))
	maps.Copy(all, countersOf("tftp_", tftp.Stats{}))
	maps.Copy(all, countersOf("http_boot_", httpd.Stats{}))
	maps.Copy(all, countersOf("relay_", access.RelayTotals{}))
	page, err := os.ReadFile("../../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`((?:dhcp|dhcp6|tftp|http_boot|relay)_[a-z_]+)`").FindAllSubmatch(page, -1)
	for _, m := range named {
		if _, there := all[string(m[1])+"_total"]; !there {
			t.Errorf("the page names %s, and there is no such counter", m[1])
		}
	}
	if len(named) < 20 {
		t.Errorf("the page names %d counters", len(named))
	}
}
