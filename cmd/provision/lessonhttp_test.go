package main

import (
	"log/slog"
	"testing"
	"time"

	"github.com/rackstage/provision/engine"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/pxe"
)

func TestAModelWhosePXEComesToNothingIsLeftToHTTPBoot(t *testing.T) {
	l := newLessons(engine.New(engine.Options{}), nil, slog.New(slog.DiscardHandler))
	n := fleet.Node{MAC: "52:54:00:00:00:01", Approved: true, Inventory: fleet.Inventory{Vendor: "Acme", Product: "R1", Firmware: "uefi"}}
	stranger := fleet.Node{MAC: "52:54:00:00:00:02", Inventory: n.Inventory}
	rom := func(n fleet.Node) fleet.Quirk {
		return l.quirk(pxe.Request{MAC: n.MAC, Firmware: pxe.ROM, Arch: 7}, n)
	}
	boot := func(n fleet.Node, by pxe.Firmware, fell bool) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.learn(pxe.Verdict{
			Outcome: pxe.Outcome{LoaderFailure: fleet.LoaderFailure{Loader: "snponly.efi", MAC: n.MAC, At: time.Now()}, Works: true},
			Model:   pxe.ModelOf(n.MAC, n, pxe.PlatformX64), Firmware: by, Fell: fell,
		})
	}
	for range 3 {
		boot(stranger, pxe.HTTP, true)
	}
	boot(n, pxe.HTTP, true)
	if got := rom(n).HTTP; got != fleet.HTTPAsAsked || rom(stranger).HTTP != fleet.HTTPAsAsked {
		t.Fatalf("after one boot, PXE is %q", got)
	}
	boot(n, pxe.HTTP, true)
	if q := rom(n); q.HTTP != fleet.HTTPAlways || q.Reason == "" || l.ofNode(n).Reason == "" {
		t.Errorf("after two, it is left to HTTP by %+v; people are told %q", q, l.ofNode(n).Reason)
	}
	if q := l.quirk(pxe.Request{MAC: n.MAC, Firmware: pxe.HTTP, Arch: 16}, n); q.HTTP == fleet.HTTPNever {
		t.Errorf("and HTTP boot is %+v", q)
	}
	l.mu.Lock()
	l.stranded(time.Now().Add(time.Hour))
	l.mu.Unlock()
	if q := rom(n); q.HTTP != fleet.HTTPAsAsked || l.ofNode(n).Reason != "" {
		t.Errorf("one that did not come by HTTP is left to it still: %+v", q)
	}
	boot(n, pxe.HTTP, true)
	boot(n, pxe.ROM, false)
	boot(n, pxe.HTTP, true)
	if q := rom(n); q.HTTP != fleet.HTTPAsAsked {
		t.Errorf("PXE that worked in between is forgotten: %+v", q)
	}
}
