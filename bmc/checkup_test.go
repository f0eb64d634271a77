package bmc_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab/redfish"
)

var hotFacts = redfish.Facts{
	Serial: "S1", Model: "Rack 1U", MemoryMiB: 65536,
	Sensors: []redfish.Sensor{
		{Name: "Inlet Temp", Kind: "Temperature", Reading: 23, Upper: 42},
		{Name: "CPU1 Temp", Kind: "Temperature", Reading: 99, Upper: 95},
		{Name: "Gone", Kind: "Temperature", Absent: true},
		{Name: "Fan1", Kind: "Fan", Reading: 5400},
		{Name: "System Power", Kind: "Power", Reading: 187},
	},
}

// wantHot is what every service says of it.
func wantHot() fleet.Checkup {
	return fleet.Checkup{
		Via: fleet.DriverRedfish, Power: fleet.PowerIsOff, Health: fleet.HealthCritical, Watts: 187,
		Hardware: fleet.Hardware{
			Vendor: "Contoso", Model: "Rack 1U", Serial: "S1", Part: "0X77A0", UUID: "7ab00077-0000-4000-9000-000000000001",
			Processors: []string{"Contoso CPU 7"}, Cores: 8, MemoryMiB: 65536, MACs: []fleet.MAC{"02:00:00:77:00:01"},
			Firmware: []fleet.Firmware{
				{ID: "BIOS", Name: "BIOS firmware", Version: "1.0", Updateable: true}, {ID: "BMC", Name: "BMC firmware", Version: "1.0", Updateable: true},
			},
		},
		Sensors: []fleet.Sensor{
			{Name: "CPU1 Temp", Kind: "temperature", Value: 99, Unit: "°C", Upper: 95, Health: fleet.HealthCritical},
			{Name: "Fan1", Kind: "fan", Value: 5400, Unit: "rpm", Health: fleet.HealthOK},
			{Name: "Inlet Temp", Kind: "temperature", Value: 23, Unit: "°C", Upper: 42, Health: fleet.HealthOK},
			{Name: "System Power", Kind: "power", Value: 187, Unit: "W", Health: fleet.HealthOK},
		},
		Faults: []fleet.Fault{{Part: "CPU1 Temp", Health: fleet.HealthCritical, Detail: "critical: 99 °C"}},
		Log: fleet.EventLog{Name: "SEL", Total: 2, Entries: []fleet.LogEntry{
			{Health: fleet.HealthCritical, Text: "CPU 1 is too hot."}, {Health: fleet.HealthOK, Text: "The BMC has started."},
		}},
	}
}

var sameCheckup = cmp.Options{
	cmpopts.IgnoreFields(fleet.Checkup{}, "At"), cmpopts.IgnoreFields(fleet.Hardware{}, "At"), cmpopts.IgnoreFields(fleet.LogEntry{}, "At", "ID"),
	cmpopts.SortSlices(func(a, b fleet.Sensor) bool { return a.Name < b.Name }),
	cmpopts.SortSlices(func(a, b fleet.LogEntry) bool { return a.Text < b.Text }),
	cmpopts.SortSlices(func(a, b fleet.Firmware) bool { return a.ID < b.ID }),
	cmpopts.EquateEmpty(),
}

func TestACheckupReadsAllThatRedfishServicesSay(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		id     string
		faults redfish.Faults
		want   func(*fleet.Checkup)
	}{
		"by the old resources":            {"System.Embedded.1", redfish.Faults{}, func(*fleet.Checkup) {}},
		"by the new ones, with an odd id": {"437XR1138R2", redfish.Faults{NewOnly: true, NoBasic: true}, func(*fleet.Checkup) {}},
		"without logs": {"1", redfish.Faults{NoLogs: true}, func(c *fleet.Checkup) {
			c.Log, c.Lacks = fleet.EventLog{}, []string{"event log"}
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target, s := startRedfish(t, redfish.Options{Systems: []redfish.System{{ID: tt.id, Facts: hotFacts}}, Faults: tt.faults})
			s.Record("Critical", "CPU 1 is too hot.")
			want := wantHot()
			tt.want(&want)
			got, err := quick().Examine(t.Context(), probed(t, target), true)
			if diff := cmp.Diff(want, got, sameCheckup); err != nil || diff != "" {
				t.Errorf("Examine: %v (-want +got)\n%s", err, diff)
			}
			before := s.Counts().Requests
			again, err := quick().Examine(t.Context(), probed(t, target), false)
			if err != nil || !again.Hardware.At.IsZero() || len(again.Sensors) != len(want.Sensors) {
				t.Errorf("without hardware: %+v, %v", again, err)
			}
			if n := s.Counts().Requests - before; n > 24 { // its probe is some of them
				t.Errorf("a short checkup took %d requests", n)
			}
		})
	}
}

func TestALogIsClearedAndLookedAtAgain(t *testing.T) {
	t.Parallel()
	target, s := startRedfish(t, redfish.Options{})
	target = probed(t, target)
	s.Record("Critical", "a drive is broken")
	if err := quick().ClearLog(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	got, err := quick().Examine(t.Context(), target, false)
	if err != nil || len(got.Log.Entries) != 0 {
		t.Errorf("log after clearing: %+v, %v", got.Log, err)
	}
	s.Record("Critical", "a drive is broken")
	s.SetFaults(redfish.Faults{LogSticks: true})
	if err := quick().ClearLog(t.Context(), target); !errors.Is(err, bmc.ErrRejected) {
		t.Errorf("a log that cannot be read after it was cleared: %v, want ErrRejected", err)
	}
	s.SetFaults(redfish.Faults{NoLogs: true})
	if err := quick().ClearLog(t.Context(), target); !errors.Is(err, bmc.ErrUnsupported) {
		t.Errorf("without a log: %v, want ErrUnsupported", err)
	}
}

func TestNoGarbageEndsACheckupBadly(t *testing.T) {
	t.Parallel()
	for _, g := range redfish.AllGarbage() {
		if g == redfish.Trickle {
			continue // ends by its deadline only, which is another test's
		}
		t.Run(string(g), func(t *testing.T) {
			t.Parallel()
			target, s := startRedfish(t, redfish.Options{})
			target = probed(t, target)
			s.SetFaults(redfish.Faults{Garbage: g})
			target.BasicAuth = true
			begin := time.Now()
			if _, err := quick().Examine(t.Context(), target, true); err == nil && g != redfish.Types {
				t.Error("garbage was taken for a checkup")
			}
			if took := time.Since(begin); took > 20*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
}

func TestHostileTextsAreCleanAndBounded(t *testing.T) {
	t.Parallel()
	evil := "\x1b]0;owned\a" + strings.Repeat("<script>", 200) + "\n"
	facts := redfish.Facts{Model: evil, Serial: evil, Vendor: evil}
	for range 1000 {
		facts.Sensors = append(facts.Sensors, redfish.Sensor{Name: evil, Kind: "Temperature", Reading: 50, Upper: 1})
	}
	target, s := startRedfish(t, redfish.Options{Systems: []redfish.System{{Facts: facts}}})
	for range 200 {
		s.Record("Critical", evil)
	}
	got, err := quick().Examine(t.Context(), probed(t, target), true)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(got)
	if err != nil || len(raw) > 1<<20 || strings.ContainsAny(string(raw), "\x1b\a\n") || strings.Contains(string(raw), `\u001b`) {
		t.Errorf("%d bytes, %v: %.300s", len(raw), err, raw)
	}
	if len(got.Sensors) != fleet.MostSensors || len(got.Faults) != fleet.MostFaults || len(got.Log.Entries) != fleet.MostEntries || got.Log.Total != 201 {
		t.Errorf("%d sensors, %d faults, %d of %d entries", len(got.Sensors), len(got.Faults), len(got.Log.Entries), got.Log.Total)
	}
}

func TestACheckupGivesWay(t *testing.T) {
	t.Parallel()
	target, s := startRedfish(t, redfish.Options{})
	target = probed(t, target)
	s.SetFaults(redfish.Faults{Delay: 300 * time.Millisecond})
	c := bmc.New(bmc.Options{Interval: time.Millisecond, Timeout: 5 * time.Second})
	before := s.Counts().Requests
	gaveWay := make(chan error, 1)
	go func() {
		_, err := c.Examine(t.Context(), target, true)
		gaveWay <- err
	}()
	until(t, "the checkup is at work", func() bool { return s.Counts().Requests >= before+2 })
	begin := time.Now()
	if _, err := c.Power(t.Context(), target); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > soon {
		t.Errorf("an operation waited %s for a checkup", took)
	}
	if err := <-gaveWay; !errors.Is(err, bmc.ErrGaveWay) {
		t.Errorf("the checkup ended with %v, want ErrGaveWay", err)
	}
}
