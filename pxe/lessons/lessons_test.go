package lessons

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/rackstage/provision/engine"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/pxe"
)

func TestStrangersTeachNobodyElseAndStoreNothing(t *testing.T) {
	b := newBook()
	for i := range 2 * maxAlone {
		mac := fleet.MAC(fmt.Sprintf("52:54:00:00:%02x:%02x", i>>8, i&0xff))
		n := fleet.Node{Inventory: fleet.Inventory{Vendor: "Acme", Product: "R1"}} // as it says
		b.keep(fleet.Lesson{Model: pxe.ModelOf(mac, n, pxe.PlatformX64), Good: []string{"x"}})
	}
	if len(b.alone) > maxAlone || len(b.models) != 0 || len(b.take()) != 0 {
		t.Errorf("%d machines, %d models and %d lessons to store; want at most %d, none and none", len(b.alone), len(b.models), len(b.take()), maxAlone)
	}
	approved := fleet.Node{Approved: true, Inventory: fleet.Inventory{Vendor: "Acme", Product: "R1"}}
	if l, known := b.of(pxe.ModelOf("52:54:00:00:00:01", approved, pxe.PlatformX64)); known {
		t.Errorf("a model has learned %+v from strangers", l)
	}
}

func TestAModelThatBootsAThousandTimesIsStoredOnce(t *testing.T) {
	b := newBook()
	for i := range 1000 {
		b.keep(fleet.Lesson{Model: fleet.Quirk{Product: fmt.Sprintf("R%d", i%2)}, Failures: []fleet.LoaderFailure{{Loader: fmt.Sprint(i)}}})
	}
	got := b.take()
	if len(got) != 2 || got[0].Failures[0].Loader < "998" || len(b.take()) != 0 {
		t.Errorf("to be stored: %+v, want the last of both models, once", got)
	}
	for i := range 2 * maxLessons {
		b.keep(fleet.Lesson{Model: fleet.Quirk{Product: fmt.Sprintf("R%d", i)}})
	}
	if len(b.models) > maxLessons || len(b.take()) != lessonsAt {
		t.Errorf("%d models are kept, want at most %d, and %d stored at a time", len(b.models), maxLessons, lessonsAt)
	}
}

func TestWhatWasLearnedOfAModelIsToldOfItsNodes(t *testing.T) {
	l := New(engine.New(engine.Options{}), nil, slog.New(slog.DiscardHandler))
	of := func(vendor, firmware string) fleet.Node {
		return fleet.Node{MAC: "52:54:00:00:00:01", Approved: true, Inventory: fleet.Inventory{Vendor: vendor, Product: "R1", Firmware: firmware}}
	}
	acme := of("Acme", "uefi")
	failed := fleet.LoaderFailure{Loader: "snponly.efi", MAC: acme.MAC}
	l.learn(pxe.Verdict{Outcome: pxe.Outcome{LoaderFailure: failed}, Model: pxe.ModelOf(acme.MAC, acme, pxe.PlatformX64), Firmware: pxe.ROM})
	tests := map[string]struct {
		node fleet.Node
		want string
	}{
		"one of the model":            {acme, "shimx64.efi"},
		"one that has not told":       {of("Acme", ""), "shimx64.efi"},
		"the same model, with a BIOS": {of("Acme", "bios"), ""},
		"another model":               {of("Bolt", "uefi"), ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := l.OfNode(tt.node)
			if got.Loader != tt.want || (got.Reason == "") != (tt.want == "") {
				t.Errorf("OfNode = %q, %q; want %q and why", got.Loader, got.Reason, tt.want)
			}
		})
	}
}

func TestAMachineThatLargeBlocksDoNotComeThroughToGetsSmallOnes(t *testing.T) {
	of := func(mac fleet.MAC) fleet.Node {
		return fleet.Node{MAC: mac, Approved: true, Inventory: fleet.Inventory{Vendor: "Acme", Product: "R1"}}
	}
	l := New(engine.New(engine.Options{}), nil, slog.New(slog.DiscardHandler))
	first, second, third := of("52:54:00:00:00:01"), of("52:54:00:00:00:02"), of("52:54:00:00:00:03")
	stall := func(n fleet.Node) { l.learnStall(fleet.BootMark{MAC: n.MAC, At: time.Now()}, n) }
	want := func(when string, sizes ...int) {
		t.Helper()
		for i, n := range []fleet.Node{first, second, third} {
			if got := l.Quirk(pxe.Request{MAC: n.MAC}, n).BlockSize; got != sizes[i] {
				t.Errorf("%s, %s gets blocks of %d, want %d", when, n.MAC, got, sizes[i])
			}
			if got := l.OfNode(n).Reason; (got != "") != (sizes[i] != 0) {
				t.Errorf("%s, people are told of %s: %q", when, n.MAC, got)
			}
		}
	}
	want("at first", 0, 0, 0)
	stall(first)
	want("after one machine", pxe.SmallBlock, 0, 0)
	l.learnFlow(third.MAC, third)
	stall(second)
	want("after another one, and a good one in between", pxe.SmallBlock, pxe.SmallBlock, 0)
	stall(third)
	want("after two in a row", pxe.SmallBlock, pxe.SmallBlock, pxe.SmallBlock)
	if fourth := of("52:54:00:00:00:04"); l.Quirk(pxe.Request{MAC: fourth.MAC}, fourth).BlockSize != pxe.SmallBlock {
		t.Error("a new one of the model gets what it asks for")
	}
	if got := l.book.take(); len(got) != 1 || !pxe.IsModel(got[0].Model) {
		t.Errorf("stored is %+v, want the lesson of the model", got)
	}
	if q := l.OfNode(first); q.Loader != "" {
		t.Errorf("it gets another loader, too: %+v", q)
	}
}

// A hall that asks for its scripts fills no queue; a script that follows on a
// loader teaches, however late it is taken in.
func TestScriptsOfMachinesThatNobodyWatchesTakeNoPlace(t *testing.T) {
	l := New(engine.New(engine.Options{}), nil, slog.New(slog.DiscardHandler))
	const mac = fleet.MAC("52:54:00:00:00:01")
	for range 2 * factQueue {
		l.Observe(fleet.Evidence{MAC: "52:54:00:00:00:02", Phase: fleet.PhaseScript})
	}
	if len(l.facts) > 0 || l.missed.Load() > 0 {
		t.Errorf("%d facts wait, %d were missed", len(l.facts), l.missed.Load())
	}
	now := time.Now()
	l.Observe(fleet.Evidence{MAC: mac, At: now, Phase: fleet.PhaseDHCP, Firmware: string(pxe.ROM), Platform: string(pxe.PlatformX64), File: "snponly.efi"})
	l.Observe(fleet.Evidence{MAC: mac, At: now, Phase: fleet.PhaseLoader, File: "snponly.efi"})
	l.Observe(fleet.Evidence{MAC: mac, At: now, Phase: fleet.PhaseScript})
	waiting := len(l.facts)
	for range waiting {
		l.takeIn(<-l.facts)
	}
	if waiting != 3 || l.watch.Watches(mac) {
		t.Errorf("%d facts waited, want 3; the loader is on trial still: %v", waiting, l.watch.Watches(mac))
	}
	l.Observe(fleet.Evidence{MAC: mac, At: now, Phase: fleet.PhaseScript})
	if len(l.facts) > 0 {
		t.Error("a script that teaches nothing more waits")
	}
}
