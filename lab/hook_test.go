package lab

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// testBay is the bay of a machine that is off, without anything around it.
func testBay(t *testing.T) *bay {
	t.Helper()
	b := &bay{Machine: Machine{}.withDefaults(0), dir: t.TempDir()}
	if err := writeJSON(b.path(bayFile), b); err != nil {
		t.Fatal(err)
	}
	return b
}

// hook runs the hook as a BMC does.
func hook(ctx context.Context, b *bay, line string) (string, error) {
	var out strings.Builder
	err := Hook(ctx, b.dir, strings.Fields(line), &out)
	return out.String(), err
}

func TestTheHookAnswersItsBMC(t *testing.T) {
	b := testBay(t)
	steps := []struct {
		line  string
		want  string
		fails bool
	}{
		{"chassis get power", "power:0\n", false},
		{"chassis get boot", "boot:none\n", false},
		{"chassis get power boot", "power:0\nboot:none\n", false},
		{"chassis set boot pxe", "", false},
		{"chassis get boot", "boot:pxe\n", false},
		{"chassis set boot default", "", false},
		{"chassis get boot", "boot:default\n", false},
		{"chassis set boot none", "", false},
		{"chassis get boot", "boot:none\n", false},
		{"chassis set power 0", "", false},
		{"chassis set shutdown 1", "", false},
		{"chassis set identify 5 0", "", false},
		{"chassis set reset 1", "", true},
		{"chassis set fire 1", "", true},
		{"chassis set power 2", "", true},
		{"chassis burn power", "", true},
		{"chassis get", "", true},
		{"", "", true},
		{"lan get ip_addr", "ip_addr:10.77.1.11\n", false},
		{"lan get ip_addr_src mac_addr", "ip_addr_src:static\nmac_addr:52:54:00:77:01:0b\n", false},
		{"lan get backup_gw_ip_addr", "backup_gw_ip_addr:0.0.0.0\n", false},
		{"lan set ip_addr 10.0.0.1", "", false},
	}
	for _, s := range steps { // in this order
		got, err := hook(t.Context(), b, s.line)
		if got != s.want || (err != nil) != s.fails {
			t.Errorf("hook %q = %q, %v, want %q, an error: %t", s.line, got, err, s.want, s.fails)
		}
	}
}

func TestTheHookMisbehavesWhenItIsToldTo(t *testing.T) {
	b := testBay(t)
	tests := map[string]struct {
		fault Fault
		fails bool
		acts  bool
	}{
		"no fault":  {Fault{}, false, true},
		"a lie":     {Fault{Lying: true}, false, false},
		"a refusal": {Fault{Error: true}, true, false},
		"slowness":  {Fault{Slow: time.Millisecond}, false, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if err := b.setBoot(override{}); err != nil {
				t.Fatal(err)
			}
			if err := b.setFault(tt.fault); err != nil {
				t.Fatal(err)
			}
			_, err := hook(t.Context(), b, "chassis set boot pxe")
			if (err != nil) != tt.fails {
				t.Errorf("the hook returns %v, want an error: %t", err, tt.fails)
			}
			if acted := b.boot().Device == bootPXE; acted != tt.acts {
				t.Errorf("it acted: %t, want %t", acted, tt.acts)
			}
		})
	}
}

func TestASlowHookEndsWithItsContext(t *testing.T) {
	b := testBay(t)
	if err := b.setFault(Fault{Slow: time.Hour}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := hook(ctx, b, "chassis set power 0"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the hook returns %v, want %v", err, context.DeadlineExceeded)
	}
}

func TestTheHookNeedsAMachine(t *testing.T) {
	if err := Hook(t.Context(), t.TempDir(), []string{"chassis", "get", "power"}, nil); err == nil {
		t.Error("a directory without a machine was taken for one")
	}
}
