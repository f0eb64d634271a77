package lessons

import (
	"log/slog"
	"testing"
	"time"

	"github.com/rackstage/provision/engine"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/pxe"
)

// A declaredSite has the quirks that its site.yaml says.
type declaredSite struct {
	*engine.Engine
	quirks []fleet.Quirk
}

func (d *declaredSite) Site() fleet.Site { return fleet.Site{Quirks: d.quirks} }

const (
	unitMAC  = fleet.MAC("52:54:00:00:00:01")
	otherMAC = fleet.MAC("52:54:00:00:00:02")
)

func unit(mac fleet.MAC) fleet.Node {
	return fleet.Node{MAC: mac, Approved: true, Inventory: fleet.Inventory{Vendor: "Acme", Product: "R1", Firmware: "uefi"}}
}

func newDeclared(quirks ...fleet.Quirk) *Learner {
	return New(&declaredSite{engine.New(engine.Options{}), quirks}, nil, slog.New(slog.DiscardHandler))
}

func (l *Learner) loaderFailed(file string, mac fleet.MAC, model fleet.Quirk) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.learn(pxe.Verdict{Outcome: pxe.Outcome{LoaderFailure: fleet.LoaderFailure{Loader: file, MAC: mac}}, Model: model, Firmware: pxe.ROM})
}

func (l *Learner) fellToHTTP(mac fleet.MAC) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.learn(pxe.Verdict{
		Outcome: pxe.Outcome{LoaderFailure: fleet.LoaderFailure{Loader: "shimx64.efi", MAC: mac, At: time.Now()}, Works: true},
		Model:   pxe.ModelOf(mac, unit(mac), pxe.PlatformX64), Firmware: pxe.HTTP, Fell: true,
	})
}

func asksByPXE(mac fleet.MAC) pxe.Request {
	return pxe.Request{MAC: mac, Firmware: pxe.ROM, Arch: pxe.EFIX64}
}

// Whoever declares a loader wants that given, whatever a model's boots have
// taught.
func TestADeclaredLoaderBeatsWhatWasLearned(t *testing.T) {
	product := fleet.Quirk{Product: "R1"}
	loader, never, block := product, product, product
	loader.Loader, never.HTTP, block.BlockSize = "ipxe.efi", fleet.HTTPNever, 512
	tests := map[string]struct {
		declared []fleet.Quirk
		want     fleet.Quirk
	}{
		"nothing":              {nil, fleet.Quirk{HTTP: fleet.HTTPAlways}},
		"a loader":             {[]fleet.Quirk{loader}, fleet.Quirk{Loader: "ipxe.efi"}},
		"no HTTP boot":         {[]fleet.Quirk{never}, fleet.Quirk{HTTP: fleet.HTTPNever, Loader: "shimx64.efi"}},
		"small blocks":         {[]fleet.Quirk{block}, fleet.Quirk{HTTP: fleet.HTTPAlways, BlockSize: 512}},
		"a loader and a block": {[]fleet.Quirk{block, loader}, fleet.Quirk{Loader: "ipxe.efi", BlockSize: 512}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l := newDeclared(tt.declared...)
			l.fellToHTTP(unitMAC)
			l.fellToHTTP(otherMAC)
			l.loaderFailed("snponly.efi", unitMAC, pxe.ModelOf(unitMAC, unit(unitMAC), pxe.PlatformX64))
			got := l.Quirk(asksByPXE(unitMAC), unit(unitMAC))
			if got.Loader != tt.want.Loader || got.HTTP != tt.want.HTTP || got.BlockSize != tt.want.BlockSize {
				t.Errorf("Quirk = %+v, want %+v", got, tt.want)
			}
			if told := l.OfNode(unit(unitMAC)).Reason; told == "" {
				t.Error("people are not told why")
			}
		})
	}
}

// Several quirks of site.yaml may be for one machine: of each thing, the first
// that says it counts, for what asks and for people.
func TestQuirksOfSeveralDeclarationsCountTogether(t *testing.T) {
	l := newDeclared(
		fleet.Quirk{MACPrefix: "52:54:00", BlockSize: 1024, Reason: "the wire of this rack is thin"},
		fleet.Quirk{Product: "R1", Loader: "ipxe.efi", BlockSize: 512, Reason: "its SNP driver hangs"},
		fleet.Quirk{Product: "R1", Loader: "snponly.efi", NoAutoexec: true, Platform: string(pxe.PlatformX64)},
		fleet.Quirk{Product: "R1", Rechain: true, Platform: string(pxe.PlatformBIOS)},
		fleet.Quirk{Product: "R2", HTTP: fleet.HTTPNever},
	)
	got := l.Quirk(asksByPXE(unitMAC), unit(unitMAC))
	want := fleet.Quirk{
		MACPrefix: "52:54:00", BlockSize: 1024, Loader: "ipxe.efi", NoAutoexec: true,
		Reason: "the wire of this rack is thin; its SNP driver hangs",
	}
	want.Vendor, want.Product, want.Platform, want.MACPrefix = got.Vendor, got.Product, got.Platform, got.MACPrefix // who it is for
	if got != want {
		t.Errorf("Quirk = %+v\nwant    %+v", got, want)
	}
	if told := l.OfNode(unit(unitMAC)); told.Loader != "ipxe.efi" || told.Reason != "its SNP driver hangs" {
		t.Errorf("people are told %+v", told)
	}
}

// What a machine taught before it was approved, of itself, counts on until its
// model has something to say.
func TestWhatAMachineTaughtOfItselfOutlastsItsApproval(t *testing.T) {
	l := newDeclared()
	itself := pxe.ModelOf(unitMAC, fleet.Node{}, pxe.PlatformX64)
	model := pxe.ModelOf(unitMAC, unit(unitMAC), pxe.PlatformX64)
	l.loaderFailed("snponly.efi", unitMAC, itself)
	if got := l.Quirk(asksByPXE(unitMAC), fleet.Node{MAC: unitMAC}); got.Loader != "shimx64.efi" {
		t.Fatalf("unapproved, it gets %+v", got)
	}
	l.mu.Lock()
	lesson, _ := l.book.of(model)
	lesson.Good = []string{"snponly.efi"} // another one of the model booted as usual
	l.book.keep(lesson)
	l.mu.Unlock()
	if got := l.Quirk(asksByPXE(unitMAC), unit(unitMAC)); got.Loader != "shimx64.efi" {
		t.Errorf("approved, it gets %+v", got)
	}
	if got := l.OfNode(unit(unitMAC)); got.Loader != "shimx64.efi" || got.Reason == "" {
		t.Errorf("people are told %+v", got)
	}
	if got := l.Quirk(asksByPXE(otherMAC), unit(otherMAC)); got.Loader != "" {
		t.Errorf("the other one gets %+v", got)
	}
	l.loaderFailed("shimx64.efi", otherMAC, model)
	l.loaderFailed("snponly.efi", otherMAC, model)
	l.loaderFailed("snponly.efi", otherMAC, model) // it has worked: it is given up after two
	if got := l.Quirk(asksByPXE(unitMAC), unit(unitMAC)); got.Loader == "" || got.Loader == "shimx64.efi" {
		t.Errorf("and after its model has failed with both, %+v", got)
	}
}
