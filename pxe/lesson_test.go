package pxe

import (
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/fleet"
)

func TestALoaderIsGivenUpWhenItHasFailedEnough(t *testing.T) {
	// Each word is an outcome: loader and +, or loader, -, and a machine.
	tests := map[string]struct {
		story string
		want  string
		why   string
	}{
		"nothing is known":                                 {"", "", ""},
		"the usual one works":                              {"snponly.efi+", "", ""},
		"one that never worked fails once":                 {"snponly.efi-a", "shimx64.efi", "learned: snponly.efi did not start on this model"},
		"two that never worked":                            {"snponly.efi-a shimx64.efi-a", "ipxe.efi", "learned: snponly.efi and shimx64.efi did not start on this model"},
		"the next one works":                               {"snponly.efi-a shimx64.efi+", "shimx64.efi", "learned: snponly.efi did not start on this model"},
		"a known-good one fails once":                      {"snponly.efi+ snponly.efi-a", "", ""},
		"a known-good one fails once and works again":      {"snponly.efi+ snponly.efi-a snponly.efi+ snponly.efi-a", "", ""},
		"a known-good one fails twice on one machine":      {"snponly.efi+ snponly.efi-a snponly.efi-a", "shimx64.efi", "learned: snponly.efi did not start on this model"},
		"a known-good one fails on two machines":           {"snponly.efi+ snponly.efi-a snponly.efi-b", "shimx64.efi", "learned: snponly.efi did not start on this model"},
		"a learned one fails once":                         {"snponly.efi-a shimx64.efi+ shimx64.efi-a", "shimx64.efi", "learned: snponly.efi did not start on this model"},
		"a learned one fails twice":                        {"snponly.efi-a shimx64.efi+ shimx64.efi-a shimx64.efi-b", "ipxe.efi", "learned: snponly.efi and shimx64.efi did not start on this model"},
		"all fail: it starts anew, behind the last one":    {"snponly.efi-a shimx64.efi-a ipxe.efi-a", "", ""},
		"another one works too, where Secure Boot is on":   {"snponly.efi+ shimx64.efi+", "", ""},
		"another one works, and then the usual fails once": {"snponly.efi+ shimx64.efi+ snponly.efi-a", "", ""},
		"only another one was ever tried":                  {"shimx64.efi+", "", ""},
		"late, it works after all":                         {"snponly.efi-a snponly.efi+", "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			lesson := fleet.Lesson{Model: fleet.Quirk{Vendor: "Acme", Product: "R1", Platform: "uefi-x64"}}
			for word := range strings.FieldsSeq(tt.story) {
				o := Outcome{Works: strings.HasSuffix(word, "+")}
				o.Loader, _, _ = strings.Cut(strings.TrimSuffix(word, "+"), "-")
				o.MAC = fleet.MAC(word[len(word)-1:])
				lesson, _ = Learn(lesson, o, x64Loaders)
			}
			got := QuirkOf(lesson, x64Loaders)
			if got.Loader != tt.want || got.Reason != tt.why {
				t.Errorf("QuirkOf = %q because %q, want %q because %q", got.Loader, got.Reason, tt.want, tt.why)
			}
			if got.Loader != "" && got.Vendor != "Acme" {
				t.Errorf("QuirkOf = %+v: it forgot for whom it is", got)
			}
		})
	}
}

func TestALessonStaysSmall(t *testing.T) {
	lesson := fleet.Lesson{Good: []string{"undionly.kpxe"}}
	for range 10 * maxFailures {
		lesson, _ = Learn(lesson, Outcome{LoaderFailure: fleet.LoaderFailure{Loader: "undionly.kpxe"}}, biosLoaders)
		if len(lesson.Failures) > maxFailures {
			t.Fatalf("%d failures are kept", len(lesson.Failures))
		}
	}
}

func TestWhatIsKnownAlreadyIsNoNews(t *testing.T) {
	works := Outcome{LoaderFailure: fleet.LoaderFailure{Loader: "snponly.efi"}, Works: true}
	lesson, news := Learn(fleet.Lesson{}, works, x64Loaders)
	if !news {
		t.Error("the first success is no news")
	}
	if _, news = Learn(lesson, works, x64Loaders); news {
		t.Error("the second success is news")
	}
}

func TestMachinesOfOneModelShareWhatIsLearned(t *testing.T) {
	known := fleet.Node{Approved: true, Inventory: fleet.Inventory{Vendor: "Acme", Product: "R1"}}
	said := fleet.Node{Inventory: known.Inventory}
	tests := map[string]struct {
		got, want string
	}{
		"a model":                  {ModelName(ModelOf("52:54:00:12:34:56", known, PlatformX64)), "Acme R1"},
		"a stranger":               {ModelName(ModelOf("52:54:00:12:34:56", fleet.Node{}, PlatformX64)), "machine 52:54:00:12:34:56"},
		"one that says what it is": {ModelName(ModelOf("52:54:00:12:34:56", said, PlatformX64)), "machine 52:54:00:12:34:56"},
		"no MAC":                   {ModelName(ModelOf("", fleet.Node{}, PlatformX64)), "machine "},
	}
	for name, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("%s is %q, want %q", name, tt.got, tt.want)
		}
	}
	one := fleet.Lesson{Model: ModelOf("52:54:00:12:34:56", known, PlatformX64)}
	other := fleet.Lesson{Model: ModelOf("52:54:00:12:34:56", known, PlatformARM64)}
	if one.Key() == other.Key() {
		t.Error("two platforms of one model share a lesson")
	}
}

func TestABootIsWatchedFromItsLoaderOn(t *testing.T) {
	const mac = fleet.MAC("52:54:00:12:34:56")
	start := time.Unix(1_800_000_000, 0)
	offer := fleet.Evidence{Phase: fleet.PhaseDHCP, Firmware: "rom", Platform: "uefi-x64", File: "snponly.efi"}
	fetched := fleet.Evidence{Phase: fleet.PhaseLoader, File: "snponly.efi"}
	later := fleet.Evidence{} // nothing: only time goes by
	tests := map[string]struct {
		story []fleet.Evidence
		gap   time.Duration
		want  string
	}{
		"iPXE asks":                     {[]fleet.Evidence{offer, fetched, {Phase: fleet.PhaseDHCP, Firmware: "ipxe"}}, time.Second, "snponly.efi works"},
		"a script is fetched":           {[]fleet.Evidence{offer, fetched, {Phase: fleet.PhaseScript}}, time.Second, "snponly.efi works"},
		"the firmware asks again":       {[]fleet.Evidence{offer, fetched, offer}, time.Second, "snponly.efi failed"},
		"nothing comes":                 {[]fleet.Evidence{offer, fetched, later}, 2 * BootWindow, "snponly.efi failed"},
		"nothing has come yet":          {[]fleet.Evidence{offer, fetched, later}, BootWindow / 4, ""},
		"it failed is said once":        {[]fleet.Evidence{offer, fetched, later, later, offer}, 2 * BootWindow, "snponly.efi failed"},
		"late is not never":             {[]fleet.Evidence{offer, fetched, later, {Phase: fleet.PhaseScript}}, 2 * BootWindow, "snponly.efi failed, snponly.efi works"},
		"the loader was never fetched":  {[]fleet.Evidence{offer, offer, offer}, time.Second, ""},
		"never fetched, and long ago":   {[]fleet.Evidence{offer, later, {Phase: fleet.PhaseScript}}, 20 * BootWindow, ""},
		"iPXE in ROM":                   {[]fleet.Evidence{{Phase: fleet.PhaseDHCP, Firmware: "ipxe"}, {Phase: fleet.PhaseScript}}, time.Second, ""},
		"another file is no loader":     {[]fleet.Evidence{offer, {Phase: fleet.PhaseLoader, File: "grubx64.efi"}, offer}, time.Second, ""},
		"what is offered has no loader": {[]fleet.Evidence{{Phase: fleet.PhaseDHCP, Firmware: "rom"}, fetched, offer}, time.Second, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := NewWatch(4)
			var got []string
			say := func(v Verdict) {
				got = append(got, v.Loader+map[bool]string{true: " works", false: " failed"}[v.Works])
				if v.MAC != mac || v.Firmware != ROM || v.Model.Platform != "uefi-x64" {
					t.Errorf("verdict is %+v", v)
				}
			}
			for i, ev := range tt.story {
				ev.MAC, ev.At = mac, start.Add(time.Duration(i)*tt.gap)
				if ev.Phase == "" {
					for _, v := range w.Expire(ev.At) {
						say(v)
					}
					continue
				}
				if v, ok := w.See(ev, fleet.Node{}); ok {
					say(v)
				}
			}
			if strings.Join(got, ", ") != tt.want {
				t.Errorf("verdicts %q, want %q", got, tt.want)
			}
		})
	}
}

func TestAWatchIsBounded(t *testing.T) {
	w := NewWatch(4)
	for i := range 100 {
		w.See(fleet.Evidence{
			MAC: fleet.MAC(strings.Repeat("x", i+1)), Phase: fleet.PhaseDHCP, Firmware: "rom", Platform: "bios", File: "undionly.kpxe",
		}, fleet.Node{})
	}
	if len(w.trials) > 4 {
		t.Errorf("%d machines are watched, want at most 4", len(w.trials))
	}
}
