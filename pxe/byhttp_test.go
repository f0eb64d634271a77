package pxe

import (
	"testing"
	"time"

	"github.com/rackstage/provision/fleet"
)

func TestABootByHTTPAfterPXEInVainIsSeen(t *testing.T) {
	const mac = fleet.MAC("52:54:00:12:34:56")
	start := time.Unix(1_800_000_000, 0)
	rom := fleet.Evidence{Phase: fleet.PhaseDHCP, Firmware: "rom", Platform: "uefi-x64", File: "snponly.efi"}
	byHTTP := fleet.Evidence{Phase: fleet.PhaseDHCP, Firmware: "http", Platform: "uefi-x64", File: "snponly.efi"}
	fetched := fleet.Evidence{Phase: fleet.PhaseLoader, File: "snponly.efi"}
	script := fleet.Evidence{Phase: fleet.PhaseScript}
	tests := map[string]struct {
		story []fleet.Evidence
		gap   time.Duration
		want  bool
	}{
		"nothing came by TFTP":         {[]fleet.Evidence{rom, rom, byHTTP, byHTTP, fetched, script}, time.Second, true},
		"the loader did not start":     {[]fleet.Evidence{rom, fetched, byHTTP, fetched, script}, time.Second, true},
		"it boots by HTTP alone":       {[]fleet.Evidence{byHTTP, fetched, script}, time.Second, false},
		"PXE worked, and later HTTP":   {[]fleet.Evidence{rom, fetched, script, byHTTP, fetched, script}, time.Second, false},
		"HTTP came to nothing too":     {[]fleet.Evidence{rom, byHTTP, rom, fetched, script}, time.Second, false},
		"that was another boot, later": {[]fleet.Evidence{rom, byHTTP, fetched, script}, fallWithin, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w, fell := NewWatch(4), false
			for i, ev := range tt.story {
				ev.MAC, ev.At = mac, start.Add(time.Duration(i)*tt.gap)
				if v, ok := w.See(ev, fleet.Node{}); ok && v.Works {
					fell = v.Fell
				}
			}
			if fell != tt.want {
				t.Errorf("it fell from PXE to HTTP: %t, want %t", fell, tt.want)
			}
		})
	}
}

func TestAModelIsLeftToHTTPAfterTwoMachinesAndNotForEver(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	var lesson fleet.Lesson
	for range 3 {
		lesson = FellToHTTP(lesson, fleet.BootMark{MAC: "52:54:00:00:00:01", At: start})
	}
	if PrefersHTTP(lesson, start) {
		t.Error("one machine is enough: its way may be bad")
	}
	for _, mac := range []fleet.MAC{"52:54:00:00:00:02", "52:54:00:00:00:03", "52:54:00:00:00:04"} {
		lesson = FellToHTTP(lesson, fleet.BootMark{MAC: mac, At: start.Add(time.Hour)})
	}
	if !PrefersHTTP(lesson, start.Add(time.Hour)) || len(lesson.ByHTTP) != fallsOfModel {
		t.Errorf("several are not enough, or too much is kept: %+v", lesson)
	}
	if PrefersHTTP(lesson, start.Add(time.Hour+lessonLasts)) {
		t.Error("it holds for ever")
	}
}

func TestAMachineIsLeftToHTTPForAFewMinutes(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	w := NewWatch(2)
	tell := func(mac fleet.MAC, after time.Duration, by Firmware, passedOn bool) {
		w.See(fleet.Evidence{MAC: mac, At: start.Add(after), Phase: fleet.PhaseDHCP, Firmware: string(by), Platform: "uefi-x64", PassedOn: passedOn}, fleet.Node{})
	}
	tell("a", 0, ROM, true)
	tell("a", time.Minute, ROM, true) // it counts from the first
	tell("b", 0, ROM, true)
	tell("c", 0, ROM, true) // two are watched
	tell("b", time.Minute, HTTP, false)
	tell("d", time.Minute, ROM, false) // got its loader
	for mac, want := range map[fleet.MAC]bool{"a": true, "b": false, "c": false, "d": false} {
		if w.IsStranded(mac, start.Add(fallWithin-1)) || w.IsStranded(mac, start.Add(fallWithin)) != want {
			t.Errorf("%s is stranded after %s: %t, want %t, and not sooner", mac, fallWithin, !want, want)
		}
	}
	if got := w.Stranded(start.Add(fallWithin)); len(got) != 1 || got[0].MAC != "a" || got[0].Model.Platform != "uefi-x64" {
		t.Errorf("stranded are %+v, want a", got)
	}
	if got := w.Stranded(start.Add(time.Hour)); len(got) != 0 {
		t.Errorf("stranded are %+v again, and b has come", got)
	}
}
