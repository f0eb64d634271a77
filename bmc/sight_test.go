package bmc_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/bmc/bmctest"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab/redfish"
)

func TestABMCIsGreetedWithoutSigningIn(t *testing.T) {
	t.Parallel()
	service, counted := startRedfish(t, redfish.Options{Vendor: "Contoso\x1b[31m"})
	service.Driver = ""
	tests := map[string]struct {
		target bmc.Target
		want   bmc.Sight
	}{
		"Redfish": {service, bmc.Sight{Driver: fleet.DriverRedfish, Vendor: "Contoso[31m"}},
		"IPMI":    {startSim(t), bmc.Sight{Driver: fleet.DriverIPMI}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.target.Password = "Wr0ngPassw0rd"
			got, err := quick().Greet(t.Context(), tt.target)
			if err != nil || got != tt.want {
				t.Errorf("Greet = %+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
	if c := counted.Counts(); c.Refused+c.Logins > 0 {
		t.Errorf("somebody signed in: %+v", c)
	}
	if _, err := quick().Greet(t.Context(), bmc.Target{Address: "127.0.0.1:" + bmctest.FreePort(t)}); !errors.Is(err, bmc.ErrClosed) {
		t.Errorf("nobody there: %v, want %v", err, bmc.ErrClosed)
	}
}

func TestABMCSaysWhichMachineItIsIn(t *testing.T) {
	t.Parallel()
	service, _ := startRedfish(t, redfish.Options{Systems: []redfish.System{{Facts: redfish.Facts{
		UUID: "7AB00077-0000-4000-8000-525400770001", Serial: "C0FFEE", Vendor: "Contoso", Model: "R1",
		NICs: []redfish.NIC{{ID: "1", MAC: "52:54:00:77:00:01"}, {ID: "2", MAC: "52:54:00:77:00:02"}},
	}}}})
	arm, _ := startRedfish(t, redfish.Options{Systems: []redfish.System{{Facts: redfish.Facts{
		UUID: "7AB00077-0000-4000-8000-525400770003", Serial: "COCOA", Vendor: "Contoso", Model: "A1", ARM: true,
		NICs: []redfish.NIC{{ID: "1", MAC: "52:54:00:77:00:03"}},
	}}}})
	sim := startSim(t)
	sim.Driver = fleet.DriverIPMI
	tests := map[string]struct {
		target bmc.Target
		want   bmc.Machine
	}{
		"by Redfish": {probed(t, service), bmc.Machine{
			UUID: "7ab00077-0000-4000-8000-525400770001", Serial: "C0FFEE", Vendor: "Contoso", Product: "R1", Arch: "amd64",
			MACs: []fleet.MAC{"52:54:00:77:00:01", "52:54:00:77:00:02"},
		}},
		"an arm64 one, by Redfish": {probed(t, arm), bmc.Machine{
			UUID: "7ab00077-0000-4000-8000-525400770003", Serial: "COCOA", Vendor: "Contoso", Product: "A1", Arch: "arm64",
			MACs: []fleet.MAC{"52:54:00:77:00:03"},
		}},
		"by IPMI": {sim, bmc.Machine{UUID: "00000000-0000-0000-0000-000000000001", Swapped: "00000000-0000-0000-0000-000000000001"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := quick().Identify(t.Context(), tt.target)
			if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
				t.Errorf("Identify: %v (-want +got)\n%s", err, diff)
			}
		})
	}
}

// Accelerators have processors of their own, which a service lists as it likes.
func TestTheArchitectureIsThatOfTheProcessorAndNotOfWhatIsBesideIt(t *testing.T) {
	t.Parallel()
	cpu := redfish.Processor{ID: "CPU.1", Type: "CPU", Family: "x86", Set: "x86-64"}
	dpu := redfish.Processor{ID: "DPU.1", Set: "ARM-A64"}
	many := func(n int, p redfish.Processor, then ...redfish.Processor) (all []redfish.Processor) {
		for i := range n {
			p.ID = fmt.Sprintf("P.%d", i)
			all = append(all, p)
		}
		return append(all, then...)
	}
	gpu := redfish.Processor{Type: "GPU", Family: "OEM", Set: "OEM"}
	x86 := redfish.Processor{Family: "x86", Set: "x86-64"}
	tests := map[string]struct {
		processors []redfish.Processor
		want       string
	}{
		"accelerators before it":                   {many(8, gpu, cpu), "amd64"},
		"more of them than we look at":             {many(16, gpu, cpu), ""},
		"one of the other kind before it":          {[]redfish.Processor{{ID: "D", Type: "DPU", Set: "ARM-A64"}, cpu}, "amd64"},
		"one that does not say its kind before it": {[]redfish.Processor{dpu, cpu}, "amd64"},
		"none that says its kind, and they agree":  {many(2, x86), "amd64"},
		"none that says its kind, and they do not": {many(2, x86, dpu), ""},
		"one that says nothing at all":             {many(1, redfish.Processor{}, dpu), ""},
		"many that agree, and there are more":      {many(16, dpu, x86), ""},
		"an empty socket before it":                {[]redfish.Processor{{ID: "E", Type: "CPU", Absent: true}, cpu}, "amd64"},
		"an empty socket beside one":               {many(1, x86, redfish.Processor{ID: "E", Absent: true}), "amd64"},
		"accelerators alone":                       {many(2, gpu), ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target, _ := startRedfish(t, redfish.Options{Systems: []redfish.System{{Facts: redfish.Facts{Processors: tt.processors}}}})
			got, err := quick().Identify(t.Context(), probed(t, target))
			if err != nil || got.Arch != tt.want {
				t.Errorf("Identify = %q, %v, want %q", got.Arch, err, tt.want)
			}
		})
	}
}

// What is worth something only where there is time costs a slow BMC nothing: who
// it is is known, and its session is ended.
func TestASlowBMCIsIdentifiedWithoutItsProcessors(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes 5 s by the clock")
	}
	var cards []redfish.NIC
	for i := range 4 {
		cards = append(cards, redfish.NIC{ID: fmt.Sprint(i), MAC: fmt.Sprintf("52:54:00:77:01:%02x", i)})
	}
	target, s := startRedfish(t, redfish.Options{Faults: redfish.Faults{NoBasic: true}, Systems: []redfish.System{{Facts: redfish.Facts{
		NICs:       cards,
		Processors: []redfish.Processor{{ID: "1", Type: "GPU"}, {ID: "2", Type: "GPU"}, {ID: "3", Type: "GPU"}, {ID: "4", Type: "CPU", Set: "x86-64"}},
	}}}})
	target = probed(t, target)
	for name, tt := range map[string]struct {
		delay time.Duration
		arch  string
	}{
		"it has time for all":    {50 * time.Millisecond, "amd64"},
		"it has no time for all": {450 * time.Millisecond, ""}, // 8 answers have, and 5 more do not
	} {
		s.SetFaults(redfish.Faults{NoBasic: true, Delay: tt.delay})
		target.Timeout = 5 * time.Second / 3 // the conversation's is 5 s
		began := time.Now()
		got, err := quick().Identify(t.Context(), target)
		if err != nil || len(got.MACs) != len(cards) || got.Arch != tt.arch {
			t.Errorf("%s: Identify = %+v, %v after %s, want %d cards and %q", name, got, err, time.Since(began), len(cards), tt.arch)
		}
		if n := s.Sessions(); n != 0 {
			t.Errorf("%s: %d sessions are left", name, n)
		}
	}
}
