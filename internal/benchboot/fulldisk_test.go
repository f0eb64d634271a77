package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/rackstage/provision/fleet"
)

func TestAFullDiskCostsNoLease(t *testing.T) {
	if testing.Short() {
		t.Skip("mounts a file system")
	}
	dir := t.TempDir()
	command(t, "mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", dir)
	t.Cleanup(func() { command(t, "umount", "-l", dir) })
	d := newDrill(t, dir)
	before := d.load(300*time.Millisecond, nil)
	six := d.lease6()
	ballast := filepath.Join(dir, "ballast")
	fill(t, ballast)
	full := d.load(3*time.Second, nil) // the journal's own room is used up first
	if err := d.l.load(t.Context(), time.Minute, "dhcp", exchangeArgs{
		Server: dhcpServerAddr.Addr(), Relay: dhcpRelayAddr.Addr(), InFlight: 8, For: 300 * time.Millisecond, FirstClient: 1 << 30,
	}, new(exchanged)); err == nil {
		t.Error("new leases are given although the disk is full")
	}
	d.oldOnesRenew(before)
	d.oldOneRenews6(six)
	if err := d.p.kill(); err != nil {
		t.Fatal(err)
	}
	d.startFull()
	d.nobodyElseGets(append(before, full...))
	d.oldOnesRenew(before)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if after := d.load(time.Second, nil); len(after) == 0 {
		t.Error("there is room again, and nobody gets a lease")
	}
	d.keeps6(six)
	if got := d.six(sixArgs{Client: firstLate6, Do: sixRequest}); !got.Addr.IsValid() {
		t.Error("there is room again, and the client of IPv6 that got no lease gets none")
	}
	if on := d.unsaved(); len(on) != 0 {
		t.Errorf("there is room again, and the alarm stands for %q", on)
	}
}

// oldOnesRenew sees that who has a lease keeps it on a full disk for what is left
// of it, and that the alarm stands.
func (d *drill) oldOnesRenew(addrs []uint32) {
	d.Helper()
	some := addrs[:min(len(addrs), 100)]
	counted := func() int64 {
		all, err := d.api().Counters(d.Context())
		if err != nil {
			d.Fatal(err)
		}
		return all["provision_dhcp_remaining_total"]
	}
	before := counted()
	for i, seconds := range d.renews(some) {
		if seconds == 0 || seconds > 3600 {
			d.Errorf("the holder of %x renews on a full disk, and is given %d s", some[i], seconds)
		}
	}
	if n := counted() - before; n < int64(len(some)) {
		d.Errorf("%d of %d were given what is left: this test shows nothing", n, len(some))
	}
	if on := d.unsaved(); !slices.Contains(on, "the leases of this server") {
		d.Errorf("on a full disk the alarm stands for %q", on)
	}
}

// renews has the holders of addresses renew them, and returns for how many
// seconds each may keep its own.
func (d *drill) renews(addrs []uint32) (seconds []uint32) {
	d.Helper()
	a := renewArgs{Server: dhcpServerAddr.Addr(), Relay: dhcpRelayAddr.Addr(), Addrs: addrs}
	for _, addr := range addrs {
		a.Clients = append(a.Clients, d.holders[addr])
	}
	if err := d.l.load(d.Context(), 2*time.Minute, "renew", a, &seconds); err != nil {
		d.Fatal(err)
	}
	return seconds
}

// oldOneRenews6 sees that the same is so of IPv6, once the disk takes no new one.
func (d *drill) oldOneRenews6(l sixLease) {
	d.Helper()
	given := 0
	for client := uint32(firstLate6); d.six(sixArgs{Client: client, Do: sixRequest}).Addr.IsValid(); client++ {
		if given++; given > 100 {
			d.Fatal("new clients of IPv6 are given leases although the disk is full")
		}
	}
	d.Logf("%d leases of IPv6 had room yet", given)
	if got := d.six(sixArgs{Client: holder6, Do: sixRenew, Addr: l.Addr, Server: l.Server}); got.Addr != l.Addr || got.Seconds == 0 || got.Seconds > l.Seconds {
		d.Errorf("the holder of %s renews on a full disk, and is given %v for %d s", l.Addr, got.Addr, got.Seconds)
	}
	if on := d.unsaved(); !slices.Contains(on, "IPv6 leases") {
		d.Errorf("on a full disk the alarm stands for %q", on)
	}
}

// unsaved returns what alarms there are about leases that cannot be stored, and
// what they are about.
func (d *drill) unsaved() (on []string) {
	d.Helper()
	alarms, err := d.api().Alarms(d.Context())
	if err != nil {
		d.Fatal(err)
	}
	for _, a := range alarms {
		if a.Code == fleet.CodeLeasesUnsaved {
			on = append(on, a.On)
		}
	}
	slices.Sort(on)
	return on
}

func fill(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	for size := 1 << 20; size > 0; size /= 16 {
		for err == nil {
			_, err = f.Write(make([]byte, size))
		}
		err = nil
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
