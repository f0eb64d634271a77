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
	told := l.OfNode(unit(unitMAC))
	const says = "loader ipxe.efi, TFTP blocks of 1024, no autoexec.ipxe, as site.yaml says: the wire of this rack is thin; its SNP driver hangs"
	if told.Loader != "ipxe.efi" || told.Reason != says {
		t.Errorf("people are told %+v", told)
	}
}

// A loader that a platform cannot start is none for it, so that what was learned
// counts, and what another quirk says.
func TestALoaderOfAnotherPlatformIsNone(t *testing.T) {
	bios := fleet.Quirk{Product: "R1", Loader: "undionly.kpxe"}
	own := fleet.Quirk{Product: "R1", Loader: "mine.efi", Reason: "ours"}
	for name, tt := range map[string]struct {
		declared []fleet.Quirk
		want     string
	}{
		"alone":            {[]fleet.Quirk{bios}, "shimx64.efi"},
		"before the right": {[]fleet.Quirk{bios, own}, "mine.efi"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newDeclared(tt.declared...)
			l.loaderFailed("snponly.efi", unitMAC, pxe.ModelOf(unitMAC, unit(unitMAC), pxe.PlatformX64))
			if got := l.Quirk(asksByPXE(unitMAC), unit(unitMAC)); got.Loader != tt.want {
				t.Errorf("Quirk = %+v, want %s", got, tt.want)
			}
			if told := l.OfNode(unit(unitMAC)); told.Loader != tt.want || told.Reason == "" {
				t.Errorf("people are told %+v", told)
			}
			old := pxe.Request{MAC: unitMAC, Firmware: pxe.ROM, Arch: pxe.BIOS}
			if got := l.Quirk(old, unit(unitMAC)); got.Loader != "undionly.kpxe" {
				t.Errorf("with a BIOS it gets %+v", got)
			}
		})
	}
}

// Who asks for a file by TFTP says nothing of its platform. Its firmware has, when
// it asked what to boot; or its agent did; or its card is of one maker.
func TestAMachineThatAsksForAFileHasThePlatformThatItBootsAs(t *testing.T) {
	of := func(platform pxe.Platform, block int) fleet.Quirk {
		return fleet.Quirk{MACPrefix: "52:54:00", Platform: string(platform), BlockSize: block, NoAutoexec: platform == pxe.PlatformARM64}
	}
	pi := fleet.Quirk{MACPrefix: "dc:a6:32", Platform: string(pxe.PlatformPi), BlockSize: 1024}
	l := newDeclared(of(pxe.PlatformBIOS, 512), of(pxe.PlatformX64, 1400), of(pxe.PlatformARM64, 0), pi)
	byTFTP := func(mac fleet.MAC, n fleet.Node) fleet.Quirk { return l.Quirk(pxe.Request{MAC: mac}, n) }
	if q := byTFTP(unitMAC, fleet.Node{}); q != (fleet.Quirk{}) {
		t.Errorf("of one that may be anything: %+v", q)
	}
	if q := byTFTP(unitMAC, unit(unitMAC)); q.BlockSize != 1400 || q.NoAutoexec {
		t.Errorf("as its agent said: %+v", q)
	}
	if q := byTFTP("dc:a6:32:00:00:01", fleet.Node{}); q.BlockSize != 1024 {
		t.Errorf("of a Raspberry Pi: %+v", q)
	}
	l.mu.Lock()
	l.watch.See(fleet.Evidence{MAC: unitMAC, At: time.Now(), Phase: fleet.PhaseDHCP, Firmware: string(pxe.ROM), Platform: string(pxe.PlatformBIOS), File: "undionly.kpxe"}, fleet.Node{})
	l.mu.Unlock()
	if q := byTFTP(unitMAC, unit(unitMAC)); q.BlockSize != 512 || q.NoAutoexec {
		t.Errorf("as its firmware said: %+v", q)
	}
}

// A loader that was fetched has failed when the firmware asks again, and not when
// the loader fetches something.
func TestAFileThatIsFetchedNextSaysNothingOfTheLoader(t *testing.T) {
	l := newDeclared()
	see := func(phase fleet.Phase, firmware pxe.Firmware) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.watch.See(fleet.Evidence{MAC: unitMAC, At: time.Now(), Phase: phase, Firmware: string(firmware), Platform: string(pxe.PlatformX64), File: "snponly.efi"}, unit(unitMAC))
	}
	see(fleet.PhaseDHCP, pxe.ROM)
	see(fleet.PhaseLoader, "")
	if q := l.Quirk(pxe.Request{MAC: unitMAC}, unit(unitMAC)); q.Loader != "" {
		t.Errorf("as it fetches: %+v", q)
	}
	if q := l.Quirk(asksByPXE(unitMAC), unit(unitMAC)); q.Loader != "shimx64.efi" {
		t.Errorf("as it asks again: %+v", q)
	}
}

// Silence would keep its PXE for a minute, where it cannot be told to end.
func TestWhoCannotBeToldToEndItsPXEIsNotLeftToHTTP(t *testing.T) {
	small := fleet.Quirk{Product: "R1", BlockSize: 512, Reason: "its card is old"}
	l := newDeclared(small)
	l.fellToHTTP(unitMAC)
	l.fellToHTTP(otherMAC)
	r := asksByPXE(unitMAC)
	if q := l.Quirk(r, unit(unitMAC)); q.HTTP != fleet.HTTPAlways || q.Reason != "its card is old; "+leftToHTTP {
		t.Errorf("Quirk = %+v", q)
	}
	r.NoPassOn = true
	if q := l.Quirk(r, unit(unitMAC)); q.HTTP != fleet.HTTPAsAsked || q.BlockSize != 512 {
		t.Errorf("beside another server, Quirk = %+v", q)
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
