package bmc_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rackstage/provision/bmc/bmctest"
	"github.com/rackstage/provision/fleet"
)

// hexed writes bytes as ipmi_sim's commands have them.
func hexed(bytes []byte) string {
	var words []string
	for _, b := range bytes {
		words = append(words, fmt.Sprintf("%#02x", b))
	}
	return strings.Join(words, " ")
}

// fullSensor is a sensor's record of IPMI 2.0 table 43-1: value = raw × times.
func fullSensor(number, kind, unit, times byte, upper byte, name string) []byte {
	r := []byte{number, 0, 0x51, 0x01, 0, 0x20, 0, number, 3, number, 0x7f, 0x68, kind, 0x01, 0, 0, 0, 0, 0x3f, 0x3f, 0, unit, 0, 0, times}
	r = append(r, make([]byte, 47-len(r))...)
	r[30] = 0 // nothing analog is given
	r[37] = upper
	r = append(r, 0xc0|byte(len(name)))
	r = append(r, name...)
	r[4] = byte(len(r) - 5)
	return r
}

// stateSensor is a record of table 43-2, of a sensor with states of its type.
func stateSensor(number, kind byte, name string) []byte {
	r := []byte{number, 0, 0x51, 0x02, 0, 0x20, 0, number, 3, number, 0x67, 0x40, kind, 0x6f, 0xff, 0x7f, 0xff, 0x7f, 0xff, 0x7f, 0xc0, 0, 0, 1}
	r = append(r, make([]byte, 31-len(r))...)
	r = append(r, 0xc0|byte(len(name)))
	r = append(r, name...)
	r[4] = byte(len(r) - 5)
	return r
}

// simStates are a supply, a drive, memory and a processor of ipmi_sim in these
// states.
func simStates(states map[byte][]int) (lines []string) {
	names := map[byte]string{0x08: "PSU 2", 0x0d: "Disk 3", 0x0c: "DIMM A1", 0x07: "CPU 0"}
	for kind, name := range names {
		lines = append(lines,
			fmt.Sprintf("sensor_add 0x20 0 %d %d 0x6f", kind, kind),
			fmt.Sprintf("sensor_set_event_support 0x20 0 %d enable scanning per-state 000000000000000 000000000000000 000000000000000 000000000000000", kind),
			"main_sdr_add 0x20 "+hexed(stateSensor(kind, kind, name)),
		)
		for _, state := range states[kind] {
			lines = append(lines, fmt.Sprintf("sensor_set_bit 0x20 0 %d %d 1 0", kind, state))
		}
	}
	return lines
}

func TestPartsThatAreNotWellAreFoundByIPMI(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		states map[byte][]int
		want   []fleet.Fault
		health fleet.Health
	}{
		"all are there": {map[byte][]int{0x08: {0}, 0x0d: {0}, 0x0c: {6}, 0x07: {7}}, nil, fleet.HealthOK},
		"none is well": {
			map[byte][]int{0x08: {0, 3}, 0x0d: {0, 1, 6}, 0x0c: {6, 1}, 0x07: {7, 0}},
			[]fleet.Fault{
				{Part: "CPU 0", Health: fleet.HealthCritical, Detail: "internal error"},
				{Part: "DIMM A1", Health: fleet.HealthCritical, Detail: "uncorrectable error"},
				{Part: "Disk 3", Health: fleet.HealthCritical, Detail: "failed, in a failed array"},
				{Part: "PSU 2", Health: fleet.HealthCritical, Detail: "has no input"},
			},
			fleet.HealthCritical,
		},
		"a drive will fail": {map[byte][]int{0x0d: {0, 2}}, []fleet.Fault{{Part: "Disk 3", Health: fleet.HealthWarning, Detail: "about to fail"}}, fleet.HealthWarning},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := bmctest.StartIPMI(t, bmctest.IPMIOptions{Commands: simStates(tt.states)}).Target()
			target.Driver = fleet.DriverIPMI
			got, err := quick().Examine(t.Context(), target, false)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got.Faults); diff != "" || got.Health != tt.health {
				t.Errorf("health %s, want %s; faults (-want +got)\n%s", got.Health, tt.health, diff)
			}
		})
	}
}

// fruData is a FRU with a product area, by the FRU Information Storage Definition.
func fruData(fields ...string) []byte {
	area := []byte{1, 0, 0x19}
	for _, f := range fields {
		area = append(append(area, 0xc0|byte(len(f))), f...)
	}
	area = append(area, 0xc1)
	for len(area)%8 != 7 {
		area = append(area, 0)
	}
	area[1] = byte((len(area) + 1) / 8)
	head := []byte{1, 0, 0, 0, 1, 0, 0}
	return append(append(head, balance(head)), append(area, balance(area))...)
}

// balance is the byte that makes the sum of all zero.
func balance(bytes []byte) (sum byte) {
	for _, b := range bytes {
		sum -= b
	}
	return sum
}

func simHardware() []string {
	fru := fruData("Contoso", "Rack 1U", "PN-77", "v1", "SIM0001", "asset 7", "")
	return []string{
		fmt.Sprintf("mc_add_fru_data 0x20 0 %d data %s", len(fru), hexed(fru)),
		"sensor_add 0x20 0 1 0x01 0x01",
		"sensor_set_threshold 0x20 0 1 settable 111111 0x64 0x5a 0x50 0x02 0x03 0x04",
		"sensor_set_value 0x20 0 1 0x60 0",
		"sensor_set_event_support 0x20 0 1 enable scanning per-state 000111111000000 000111111000000 000111111000000 000111111000000",
		"main_sdr_add 0x20 " + hexed(fullSensor(1, 0x01, 1, 1, 90, "CPU Temp")),
		"sensor_add 0x20 0 2 0x04 0x01",
		"sensor_set_value 0x20 0 2 50 0",
		"sensor_set_event_support 0x20 0 2 enable scanning per-state 000111111000000 000111111000000 000111111000000 000111111000000",
		"main_sdr_add 0x20 " + hexed(fullSensor(2, 0x04, 18, 100, 0, "Fan 1")),
		// CPU Temp above critical; the simulator puts its own time there.
		"sel_add 0x20 0x02 0x00 0x00 0x00 0x00 0x20 0x00 0x04 0x01 0x01 0x01 0x59 0x60 0x5a",
	}
}

func TestIPMISimIsExamined(t *testing.T) {
	t.Parallel()
	target := bmctest.StartIPMI(t, bmctest.IPMIOptions{Commands: simHardware()}).Target()
	target.Driver = fleet.DriverIPMI
	got, err := quick().Examine(t.Context(), target, true)
	if err != nil {
		t.Fatal(err)
	}
	want := fleet.Checkup{
		Via: fleet.DriverIPMI, Power: fleet.PowerIsOff, Health: fleet.HealthCritical,
		Hardware: fleet.Hardware{
			Vendor: "Contoso", Model: "Rack 1U", Part: "PN-77", Serial: "SIM0001", AssetTag: "asset 7",
			Firmware: []fleet.Firmware{{ID: "BMC", Name: "BMC of manufacturer 4753, product 3842", Version: "9.8"}},
		},
		Sensors: []fleet.Sensor{
			{Name: "CPU Temp", Kind: "temperature", Value: 96, Unit: "°C", Upper: 90, Health: fleet.HealthCritical},
			{Name: "Fan 1", Kind: "fan", Value: 5000, Unit: "rpm", Health: fleet.HealthOK},
		},
		Faults: []fleet.Fault{{Part: "CPU Temp", Health: fleet.HealthCritical, Detail: "critical: 96 °C"}},
		Log:    fleet.EventLog{Name: "SEL", Total: 1, Entries: []fleet.LogEntry{{ID: "1", Health: fleet.HealthCritical, Text: "Temperature #0x01: Upper Critical - going high"}}},
		Lacks:  []string{"power draw"},
	}
	if diff := cmp.Diff(want, got, sameCheckup); diff != "" {
		t.Errorf("Examine (-want +got)\n%s", diff)
	}
	if err := quick().ClearLog(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	if got, err = quick().Examine(t.Context(), target, false); err != nil || got.Log.Total > 1 || len(got.Log.Entries) == 1 && got.Log.Entries[0].Health == fleet.HealthCritical {
		t.Errorf("log after clearing: %+v, %v", got.Log, err)
	}
}
