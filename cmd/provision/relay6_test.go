package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab"
)

// remoteSite6 has a network of IPv6 behind the relay, and none of IPv4 that is
// served.
var remoteSite6 = strings.Replace(remoteSite, "10.78.0.0/24, mode: full", "10.78.0.0/24, mode: observe", 1) + `
  - {name: far6, cidr: "fd78::/64", mode: full, ranges: ["fd78::1000-fd78::1fff"], dns: ["fd78::53"]}
`

// TestARealClientOfIPv6BehindOurRelay has dhclient ask through the relay, on a
// network that nothing but the relay has a leg in, and fetch a loader and its
// script from the relay's IPv6 address. Its kernel hears where it is from the
// relay too. Then a machine boots there by PXE over IPv6, up to its agent's hello,
// and one with a system while the server is dead: it is sent to its disk.
func TestARealClientOfIPv6BehindOurRelay(t *testing.T) {
	if testing.Short() {
		t.Skip("boots two virtual machines: make test runs it")
	}
	state, _ := testImages(t)
	active := fleet.Node{
		ID: "n-0000000078", Name: "far-1", MAC: "52:54:00:78:00:02", MACs: []fleet.MAC{"52:54:00:78:00:02"},
		State: fleet.Active, Stage: "prd", Pool: "prd", Approved: true, Addr: netip.MustParseAddr("fd78::1d0d"), FirstSeen: time.Now(),
		BMC: fleet.BMC{CipherSuite: -1}, System: fleet.System{InstalledAt: time.Now()}, Revision: 1,
	}
	plan := labPlan{
		state: state, site: remoteSite6, hook: os.Getenv("PROVISION_TEST_PROGRAM"),
		machines: []lab.Machine{
			{Name: "n1", Firmware: lab.UEFI, MAC: "52:54:00:78:00:01", Remote: true, IPv6: true},
			{Name: "n2", Firmware: lab.UEFI, MAC: string(active.MAC), Remote: true, IPv6: true},
		},
	}
	r := prepareTestRack(t, plan, func(r *labRack) error { return errors.Join(knows(t.Context(), r, active), addIPv6(t.Context(), r)) })
	if err := r.applySite(t.Context()); err != nil {
		t.Fatal(err)
	}
	edgeLog := startRelay(t, r, "--dhcp6-server", lab.ServerAddress6.Addr().String())
	until(t, 10*time.Second, "the relay's place on the IPv6 subnet", func(ctx context.Context) (bool, error) {
		list, err := r.client.Relays(ctx)
		return err == nil && len(list) == 1 && len(list[0].Places) == 2, err
	})

	c := newClient6(t, r)
	if addr := c.lease(); !farRange6.Contains(addr) {
		t.Errorf("dhclient was given %v, want an address of the range", addr)
	}
	until(t, 10*time.Second, "the relay's advertisement", func(ctx context.Context) (bool, error) {
		routes, err := c.run(ctx, "ip", "-6", "route", "show", "fd78::/64", "proto", "kernel")
		more, err2 := c.run(ctx, "ip", "-6", "route", "show", "fd78::/64", "proto", "ra")
		return strings.Contains(routes+more, "fd78::/64"), errors.Join(err, err2)
	})
	script, err := c.run(t.Context(), "curl", "-sSf", "-m", "20", "http://[fd78::1]/boot/ipxe?mac=52-54-00-78-00-09&platform=efi&arch=x86_64")
	if err != nil || !strings.Contains(script, "http://[fd78::1]/boot/vmlinuz") {
		t.Errorf("the script does not name the relay: %v\n%s", err, script)
	}
	if size, err := c.run(t.Context(), "curl", "-sSf", "-m", "20", "-o", "/dev/null", "-w", "%{size_download}", "http://[fd78::1]/boot/snponly.efi"); err != nil || len(size) < 6 {
		t.Errorf("the loader has %s bytes, %v", size, err)
	}
	if u := relayOf(t, r).Usage; u.Relayed < 2 || u.Unsent+u.Strangers != 0 {
		t.Errorf("the relay counted %+v, want two packets or more passed on", u)
	}
	if code, err := c.run(t.Context(), "curl", "-s", "-m", "20", "-o", "/dev/null", "-w", "%{http_code}", "-H", "X: "+strings.Repeat("x", 16<<10), "http://[fd78::1]/boot/ipxe"); code != "431" {
		t.Errorf("headers of 16 KiB are answered with %s, %v; want 431", code, err)
	}
	hasLease6(t, r)
	node := bootsRemote(t, r, "n1", "52:54:00:78:00:01")
	until(t, 10*time.Second, "what the relay counted of TFTP and HTTP", func(ctx context.Context) (bool, error) {
		all, err := r.client.Counters(ctx)
		list, err2 := r.client.Relays(ctx)
		return len(list) == 1 && list[0].Usage.TFTP.Done > 0 && list[0].Usage.HTTP.HeadersTooLarge == 1 &&
			all["provision_relay_http_headers_too_large_total"] == 1, errors.Join(err, err2)
	})
	if addr, err := netip.ParseAddr(node.Addr); err != nil || !farRange6.Contains(addr) {
		t.Errorf("the node is at %q, want an address of %s", node.Addr, farRange6)
	}

	if err := r.stopServer(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	awaitLine(t, edgeLog, "server is away")
	isSentToItsDisk(t, r, "n2")
	if err := r.startServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitLine(t, edgeLog, "leases handed over")
	until(t, 10*time.Second, "the lease that the relay confirmed", func(ctx context.Context) (bool, error) {
		list, err := r.client.Leases(ctx, "far6")
		return slices.ContainsFunc(list, func(l api.Lease) bool { return l.Addr == active.Addr.String() && l.MAC == string(active.MAC) }), err
	})
}

var farRange6 = netip.MustParsePrefix("fd78::1000/116")

// addIPv6 gives server and edge addresses of IPv6, and the server the way to the
// machines'.
func addIPv6(ctx context.Context, r *labRack) error {
	rack, edge := r.rack.Namespace(), r.rack.Namespace()+"-edge"
	for _, args := range []string{
		"-n " + rack + " address add " + lab.ServerAddress6.String() + " dev " + lab.Bridge + " nodad",
		"-n " + edge + " address add fd77::254/64 dev " + lab.EdgeUplink + " nodad",
		"-n " + edge + " address add fd78::1/64 dev " + lab.EdgeMachines + " nodad",
		"-n " + rack + " route add fd78::/64 via fd77::254",
	} {
		if out, err := exec.CommandContext(ctx, "ip", strings.Fields(args)...).CombinedOutput(); err != nil { //nolint:gosec // names of the lab's own
			return fmt.Errorf("ip %s: %w: %s", args, err, out)
		}
	}
	return nil
}

// A client6 is a machine on the far network: a namespace with one card.
type client6 struct {
	t   *testing.T
	ns  string
	dir string
}

func newClient6(t *testing.T, r *labRack) client6 {
	t.Helper()
	c := client6{t: t, ns: r.rack.Namespace() + "-m6", dir: t.TempDir()}
	for _, args := range []string{
		"netns add " + c.ns,
		"link add m6 netns " + r.rack.Namespace() + " type veth peer name nic0 netns " + c.ns,
		"-n " + r.rack.Namespace() + " link set m6 master far0 up",
		"-n " + c.ns + " link set nic0 address 52:54:00:78:00:09",
		"-n " + c.ns + " link set lo up",
		"-n " + c.ns + " link set nic0 up",
	} {
		if out, err := exec.CommandContext(t.Context(), "ip", strings.Fields(args)...).CombinedOutput(); err != nil { //nolint:gosec // names of the lab's own
			t.Fatalf("ip %s: %v: %s", args, err, out)
		}
		if strings.HasPrefix(args, "netns add") {
			t.Cleanup(func() {
				_ = exec.CommandContext(context.WithoutCancel(t.Context()), "ip", "netns", "delete", c.ns).Run()
			}) //nolint:gosec // our own
		}
	}
	until(t, 10*time.Second, "a link-local address", func(ctx context.Context) (bool, error) {
		out, err := c.run(ctx, "ip", "-6", "address", "show", "dev", "nic0", "scope", "link")
		return strings.Contains(out, "fe80::") && !strings.Contains(out, "tentative"), err
	})
	return c
}

func (c client6) run(ctx context.Context, argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", c.ns}, argv...)...).CombinedOutput() //nolint:gosec // of this test
	return string(out), err
}

// lease has dhclient ask once, and takes the address that it is given.
func (c client6) lease() netip.Addr {
	c.t.Helper()
	script, got := filepath.Join(c.dir, "script"), filepath.Join(c.dir, "address")
	text := "#!/bin/sh\n[ -z \"$new_ip6_address\" ] || { ip address add $new_ip6_address/128 dev nic0 nodad; echo $new_ip6_address >" + got + "; }\n"
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil { //nolint:gosec // it is run
		c.t.Fatal(err)
	}
	out, err := c.run(c.t.Context(), "timeout", "30", "dhclient", "-6", "-1", "-v", "-cf", "/dev/null", "-lf", filepath.Join(c.dir, "leases"),
		"-pf", filepath.Join(c.dir, "pid"), "-sf", script, "nic0")
	c.t.Cleanup(func() { // it goes on as a daemon
		raw, err := os.ReadFile(filepath.Join(c.dir, "pid"))
		pid, err2 := strconv.Atoi(strings.TrimSpace(string(raw)))
		if err := errors.Join(err, err2); err != nil {
			c.t.Errorf("dhclient cannot be ended: %v", err)
			return
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			c.t.Errorf("dhclient was not ended: %v", err)
		}
	})
	text2, err2 := os.ReadFile(got)
	addr, err3 := netip.ParseAddr(strings.TrimSpace(string(text2)))
	if err := errors.Join(err, err2, err3); err != nil {
		c.t.Fatalf("dhclient: %v\n%s", err, out)
	}
	return addr
}

// hasLease6 looks up who the server thinks has an address there.
func hasLease6(t *testing.T, r *labRack) {
	t.Helper()
	list, err := r.client.Leases(t.Context(), "far6")
	if err != nil || len(list) != 1 || list[0].MAC != "52:54:00:78:00:09" {
		t.Errorf("leases %+v, %v; want that of the client", list, err)
	}
}
