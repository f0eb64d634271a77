package lessons

import (
	"log/slog"
	"testing"
	"time"

	"github.com/rackstage/provision/engine"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/pxe"
)

func TestAModelWhosePXEComesToNothingIsLeftToHTTPBoot(t *testing.T) {
	l := New(engine.New(engine.Options{}), nil, slog.New(slog.DiscardHandler))
	n := fleet.Node{MAC: "52:54:00:00:00:01", Approved: true, Inventory: fleet.Inventory{Vendor: "Acme", Product: "R1", Firmware: "uefi"}}
	another, stranger := n, fleet.Node{MAC: "52:54:00:00:00:02", Inventory: n.Inventory}
	another.MAC = "52:54:00:00:00:03"
	rom := func(n fleet.Node) fleet.Quirk {
		return l.Quirk(pxe.Request{MAC: n.MAC, Firmware: pxe.ROM, Arch: 7}, n)
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
		boot(n, pxe.HTTP, true)
	}
	if rom(n).HTTP != fleet.HTTPAsAsked || rom(stranger).HTTP != fleet.HTTPAsAsked {
		t.Fatal("one machine and a stranger have taught the model")
	}
	boot(another, pxe.HTTP, true)
	if q := rom(n); q.HTTP != fleet.HTTPAlways || q.Reason == "" || l.OfNode(n).Reason == "" {
		t.Errorf("after two, it is left to HTTP by %+v; people are told %q", q, l.OfNode(n).Reason)
	}
	if q := l.Quirk(pxe.Request{MAC: n.MAC, Firmware: pxe.HTTP, Arch: 16}, n); q.HTTP == fleet.HTTPNever {
		t.Errorf("and HTTP boot is %+v", q)
	}
	stranded := func(at time.Time) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.stranded(at)
	}
	stranded(time.Now().Add(time.Hour)) // it has asked alone: nobody has told it to end
	if rom(n).HTTP != fleet.HTTPAlways {
		t.Error("a request that got no such answer has ended it")
	}
	l.mu.Lock()
	l.watch.See(fleet.Evidence{MAC: n.MAC, At: time.Now(), Phase: fleet.PhaseDHCP, Firmware: "rom", Platform: "uefi-x64", PassedOn: true}, n)
	l.mu.Unlock()
	stranded(time.Now().Add(time.Hour))
	if q := rom(n); q.HTTP != fleet.HTTPAsAsked || l.OfNode(n).Reason != "" {
		t.Errorf("one that did not come by HTTP is left to it still: %+v", q)
	}
	boot(n, pxe.HTTP, true)
	boot(n, pxe.ROM, false)
	boot(another, pxe.HTTP, true)
	if q := rom(n); q.HTTP != fleet.HTTPAsAsked {
		t.Errorf("PXE that worked in between is forgotten: %+v", q)
	}
}
