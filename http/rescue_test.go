package http

import (
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

func TestTheRescueSystemOfAMenuIsForOneBoot(t *testing.T) {
	base, e := serveBoot(t, func(o *Options) {
		writeFile(t, filepath.Join(o.BootDir, "rescue.img"), "ramdisk")
		o.Leases = leaseBook{netip.MustParseAddr("127.0.0.1"): "52:54:00:00:00:11"}
	})
	e.nodes = append(e.nodes, fleet.Node{ID: "n-0000000011", MAC: "52:54:00:00:00:11", State: fleet.Ready, Pool: "prd", Approved: true})
	state := func() fleet.State {
		n, _ := e.NodeByMAC("52:54:00:00:00:11")
		return n.State
	}
	for _, step := range []struct {
		method, do, has string
		want            fleet.State
	}{
		{"HEAD", "rescue", "", fleet.Ready},
		{"GET", "menu", "key r rescue", fleet.Ready},
		{"GET", "rescue", "rescue.img", fleet.Rescue},
		{"GET", "rescue", "rescue.img", fleet.Rescue}, // it asks twice
		{"GET", "menu", "was ready", fleet.Rescue},
		{"HEAD", "", "", fleet.Rescue},
		{"GET", "", "ticket=", fleet.Ready},
	} {
		_, body := fetch(t, base, step.method, "/boot/ipxe?mac=52-54-00-00-00-11&do="+step.do)
		if !strings.Contains(body, step.has) || state() != step.want {
			t.Errorf("%s %q: node is %s, want %s; script:\n%s", step.method, step.do, state(), step.want, body)
		}
	}
}

func TestRescueByTheMenuIsLimitedPerNode(t *testing.T) {
	base, e := serveBoot(t, func(o *Options) {
		writeFile(t, filepath.Join(o.BootDir, "rescue.img"), "ramdisk")
		o.Leases = leaseBook{netip.MustParseAddr("127.0.0.1"): "52:54:00:00:00:11"}
	})
	e.nodes = append(e.nodes, fleet.Node{ID: "n-0000000011", MAC: "52:54:00:00:00:11", State: fleet.Ready, Pool: "prd", Approved: true})
	before := e.LastEvent()
	for range 3 * nodeBurst {
		fetch(t, base, "GET", "/boot/ipxe?mac=52-54-00-00-00-11&do=rescue")
		fetch(t, base, "GET", "/boot/ipxe?mac=52-54-00-00-00-11&do=local")
	}
	if got := e.LastEvent() - before; got > 2*(nodeBurst+2) || got < 2 {
		t.Errorf("%d changes, want some, and at most two for each ticket that it may have", got)
	}
}

func TestAnOperatorRescuesANode(t *testing.T) {
	var dir string
	c, e := local(t, func(o *Options) {
		dir = o.BootDir
		o.Quirk = func(fleet.Node) fleet.Quirk { return fleet.Quirk{Loader: "ipxe.pxe", Reason: "learned: it hangs"} }
	})
	if _, err := c.Rescue(t.Context(), "prd-1", api.RescueRequest{}); err == nil || !strings.Contains(err.Error(), "rescue.img is not in the folder boot") {
		t.Errorf("Rescue without its ramdisk = %v", err)
	}
	writeFile(t, filepath.Join(dir, "rescue.img"), "ramdisk")
	e.nodes[0].Inventory.Firmware = "bios"
	n, err := c.Rescue(t.Context(), "prd-1", api.RescueRequest{})
	if err != nil || n.State != "rescue" || n.Rescue == nil || n.Rescue.From != "active" || n.Loader == nil || n.Loader.File != "ipxe.pxe" {
		t.Errorf("Rescue = %s, %+v, %v; want rescue from active", n.State, n.Rescue, err)
	}
	n, err = c.Rescue(t.Context(), "prd-1", api.RescueRequest{End: true})
	if err != nil || n.State != "active" || n.Rescue != nil {
		t.Errorf("its end = %s, %+v, %v; want active", n.State, n.Rescue, err)
	}
}

func TestKeysOnAKernelCommandLine(t *testing.T) {
	for key, want := range map[string]string{
		"ssh-ed25519 AAAAC3+/= anna":      "provision.key=ssh-ed25519:AAAAC3+/=",
		"sk-ssh-ed25519@openssh.com AAAA": "provision.key=sk-ssh-ed25519@openssh.com:AAAA",
		`command="x y" ssh-ed25519 AAAA`:  "",
		"ssh-ed25519":                     "",
		"ssh-ed25519 AAAA%20init=/bin/sh": "",
		"ssh-ed25519 AAAA\nreboot":        "provision.key=ssh-ed25519:AAAA",
	} {
		if got := keyArg(key); got != want {
			t.Errorf("keyArg(%q) = %q, want %q", key, got, want)
		}
	}
}
