package redfish_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/lab/redfish"
)

const (
	sys   = "/redfish/v1/Systems/1"
	press = sys + "/Actions/ComputerSystem.Reset"
)

func (c *caller) reset(status int, kind string) {
	c.t.Helper()
	c.want(status, http.MethodPost, press, object{"ResetType": kind})
}

func (c *caller) boot(status int, change object) map[string]any {
	c.t.Helper()
	c.want(status, http.MethodPatch, sys, object{"Boot": change})
	b, _ := c.get(sys)["Boot"].(map[string]any)
	return b
}

func TestPowerIsSwitched(t *testing.T) {
	c, m := memory(t, redfish.Faults{})
	steps := []struct {
		kind   string
		status int
		on     bool
		starts int
	}{
		{"ForceOff", 204, false, 0},
		{"ForceRestart", 409, false, 0},
		{"Nmi", 409, false, 0},
		{"On", 204, true, 1},
		{"On", 204, true, 1},
		{"ForceRestart", 204, true, 2},
		{"PowerCycle", 204, true, 3},
		{"Nmi", 204, true, 3},
		{"GracefulShutdown", 204, false, 3},
		{"PowerCycle", 204, true, 4},
		{"Melt", 400, true, 4},
		{"", 400, true, 4},
		{"ForceOff", 204, false, 4},
	}
	for _, s := range steps { // in this order
		c.reset(s.status, s.kind)
		want := map[bool]string{true: "On", false: "Off"}[s.on]
		if got := c.get(sys)["PowerState"]; got != want || m.IsOn() != s.on || len(m.Boots()) != s.starts {
			t.Fatalf("after %q: %v, the machine is on: %t after %d starts; want %t after %d", s.kind, got, m.IsOn(), len(m.Boots()), s.on, s.starts)
		}
	}
	if m.NMIs() != 1 {
		t.Errorf("%d NMIs, want 1", m.NMIs())
	}
	c.reset(204, "On")
	m.IgnoreButton(true)
	c.reset(204, "GracefulShutdown")
	if !m.IsOn() {
		t.Error("a system that ignores the button has shut down")
	}
}

func TestAnOverrideThatHoldsOnceIsGoneAfterTheStart(t *testing.T) {
	c, m := memory(t, redfish.Faults{})
	c.boot(200, object{"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "UefiHttp", "BootSourceOverrideMode": "UEFI", "HttpBootUri": "http://10.0.0.1/boot.efi"})
	c.reset(204, "On")
	c.reset(204, "ForceRestart")
	c.boot(200, object{"BootSourceOverrideEnabled": "Continuous", "BootSourceOverrideTarget": "Pxe", "BootSourceOverrideMode": "Legacy"})
	c.reset(204, "PowerCycle")
	c.reset(204, "ForceRestart")
	got := m.Boots()
	want := []redfish.Boot{
		{Enabled: "Once", Target: "UefiHttp", Mode: "UEFI", URL: "http://10.0.0.1/boot.efi"},
		redfish.NoOverride,
		{Enabled: "Continuous", Target: "Pxe", Mode: "Legacy"},
		{Enabled: "Continuous", Target: "Pxe", Mode: "Legacy"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("the machine has started with\n%+v, want\n%+v", got, want)
	}
	if b := c.boot(200, object{"BootSourceOverrideEnabled": "Disabled"}); b["BootSourceOverrideTarget"] != "None" {
		t.Errorf("an override that is disabled is %v", b)
	}
}

func TestOverridesThatServicesTreatDifferently(t *testing.T) {
	pxe := object{"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe"}
	tests := map[string]struct {
		faults redfish.Faults
		change object
		status int
		shows  object
	}{
		"as the schema has it":                      {redfish.Faults{}, pxe, 200, object{"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe"}},
		"once is shown as continuous":               {redfish.Faults{OnceIsContinuous: true}, pxe, 200, object{"BootSourceOverrideEnabled": "Continuous", "BootSourceOverrideTarget": "Pxe"}},
		"HTTP without a URL is network boot":        {redfish.Faults{HTTPNeedsURL: true}, object{"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "UefiHttp"}, 200, object{"BootSourceOverrideTarget": "Pxe"}},
		"it says yes and forgets":                   {redfish.Faults{LyingBoot: true}, pxe, 200, object{"BootSourceOverrideTarget": "None"}},
		"a URL without HTTP is refused":             {redfish.Faults{RefusesStaleURL: true}, object{"BootSourceOverrideTarget": "Pxe", "HttpBootUri": "http://10.0.0.1/"}, 400, nil},
		"PATCH is refused":                          {redfish.Faults{NoPatch: true}, pxe, 405, nil},
		"a target that it has not":                  {redfish.Faults{}, object{"BootSourceOverrideTarget": "Floppy"}, 400, nil},
		"a target that is no text":                  {redfish.Faults{}, object{"BootSourceOverrideTarget": 7}, 400, nil},
		"a URL that is none":                        {redfish.Faults{}, object{"BootSourceOverrideTarget": "UefiHttp", "HttpBootUri": "boot.efi"}, 400, nil},
		"a URL that it fetches at once, and cannot": {redfish.Faults{FetchesURLs: true}, object{"BootSourceOverrideTarget": "UefiHttp", "HttpBootUri": "http://127.0.0.1:1/"}, 500, nil},
		"the mode is not shown":                     {redfish.Faults{NoMode: true}, pxe, 200, object{"BootSourceOverrideMode": nil}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c, _ := memory(t, tt.faults)
			got := c.boot(tt.status, tt.change)
			for name, want := range tt.shows {
				if got[name] != want {
					t.Errorf("%s is %v, want %v", name, got[name], want)
				}
			}
		})
	}
}

func TestPowerThatIsNotSwitchedAsItShould(t *testing.T) {
	tests := map[string]struct {
		faults redfish.Faults
		status int
		on     bool // after the order, when it was given twice
	}{
		"it lies":                {redfish.Faults{Lying: true}, 204, false},
		"it forgets the first":   {redfish.Faults{Swallow: 1}, 204, true},
		"it fails":               {redfish.Faults{Error: true}, 500, false},
		"nothing is wrong":       {redfish.Faults{}, 204, true},
		"it forgets the first 2": {redfish.Faults{Swallow: 2}, 204, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c, m := memory(t, tt.faults)
			c.reset(tt.status, "On")
			c.reset(tt.status, "On")
			if m.IsOn() != tt.on {
				t.Errorf("the machine is on: %t, want %t", m.IsOn(), tt.on)
			}
		})
	}
	t.Run("it refuses what is so already", func(t *testing.T) {
		c, _ := memory(t, redfish.Faults{Strict: true, NoNMI: true})
		c.reset(409, "ForceOff")
		c.reset(204, "On")
		c.reset(409, "On")
		c.reset(501, "Nmi")
	})
}

func TestASlowServiceShowsWhereItIs(t *testing.T) {
	c, m := memory(t, redfish.Faults{Slow: 50 * time.Millisecond, Transition: true})
	c.reset(409, "ForceRestart")
	c.reset(204, "On")
	if got := c.get(sys)["PowerState"]; got != "PoweringOn" {
		t.Errorf("at once it is %v, want PoweringOn", got)
	}
	eventually(t, "power on", func() bool { return c.get(sys)["PowerState"] == "On" })
	c.reset(204, "ForceOff")
	if got := c.get(sys)["PowerState"]; got != "PoweringOff" || !m.IsOn() {
		t.Errorf("at once it is %v, want PoweringOff", got)
	}
	eventually(t, "power off", func() bool { return c.get(sys)["PowerState"] == "Off" && !m.IsOn() })
}

func TestAWireThatMisbehaves(t *testing.T) {
	faults := map[string]redfish.Faults{
		"it does not read":                  {Deaf: true},
		"it does not answer":                {Hangs: true},
		"it answers too late":               {Delay: time.Minute},
		"it sends JSON a byte now and then": {Garbage: redfish.Trickle},
	}
	for name, f := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _ := memory(t, f)
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			if _, b, err := c.try(ctx, "GET", sys, nil); err == nil {
				t.Errorf("it answered %q", b)
			}
		})
	}
	t.Run("it redirects in a circle", func(t *testing.T) {
		c, _ := memory(t, redfish.Faults{Redirect: "loop"})
		r, _, err := c.try(t.Context(), "GET", sys, nil)
		if err != nil || r.Header.Get("Location") != sys {
			t.Errorf("it leads to %q, %v", r.Header.Get("Location"), err)
		}
	})
	for _, g := range redfish.AllGarbage() {
		t.Run("it answers with "+string(g), func(t *testing.T) {
			t.Parallel()
			c, _ := memory(t, redfish.Faults{Garbage: g})
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, b, err := c.try(ctx, "GET", sys, nil)
			if err == nil && strings.Contains(string(b), "PowerState\":\"O") {
				t.Errorf("it answers as it should: %q", b)
			}
		})
	}
}

// Who hangs up says so first, and may read on for a moment.
func TestWhatHasNoEndIsNotEndedForWhoHangsUp(t *testing.T) {
	faults := map[string]redfish.Faults{
		"it does not answer":                {Hangs: true},
		"it answers too late":               {Delay: time.Minute},
		"it sends JSON a byte now and then": {Garbage: redfish.Trickle},
	}
	for name, f := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _ := memory(t, f)
			d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // it is what is tested
			conn, err := d.DialContext(t.Context(), "tcp", c.v.Addr())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, "GET "+sys+" HTTP/1.1\r\nHost: bmc\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			if err := conn.(*tls.Conn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				return // none
			}
			defer answer.Body.Close()
			if b, err := io.ReadAll(answer.Body); err == nil {
				t.Errorf("it answered %s, and %q", answer.Status, b)
			}
		})
	}
}

func TestBIOSSettingsCountFromTheNextStartOn(t *testing.T) {
	c, _ := memory(t, redfish.Faults{})
	const bios = sys + "/Bios"
	now := func() any { return dig(c.get(bios), "Attributes", "SriovGlobalEnable") }
	c.want(400, "PATCH", bios+"/Settings", object{"Attributes": object{"SriovGlobalEnable": "Perhaps"}})
	c.want(400, "PATCH", bios+"/Settings", object{"Attributes": object{"Rockets": "Enabled"}})
	c.want(400, "PATCH", bios+"/Settings", object{"Attributes": object{"FanOffset": 101}})
	c.want(400, "PATCH", bios+"/Settings", object{})
	c.want(200, "PATCH", bios+"/Settings", object{"Attributes": object{"SriovGlobalEnable": "Enabled", "FanOffset": 10}})
	if got := now(); got != "Disabled" {
		t.Errorf("before the start it is %v", got)
	}
	if got := dig(c.get(bios+"/Settings"), "Attributes", "SriovGlobalEnable"); got != "Enabled" {
		t.Errorf("pending is %v", got)
	}
	c.reset(204, "On")
	if got := now(); got != "Enabled" {
		t.Errorf("after the start it is %v", got)
	}
	if got := dig(c.get(bios+"/Settings"), "Attributes", "SriovGlobalEnable"); got != nil {
		t.Errorf("still pending is %v", got)
	}
	c.want(204, "POST", bios+"/Actions/Bios.ResetBios", object{})
	c.reset(204, "ForceRestart")
	if got := now(); got != "Disabled" {
		t.Errorf("after the reset to defaults it is %v", got)
	}
}

func TestVirtualMediaAreInsertedAndEjected(t *testing.T) {
	images := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/agent.iso" {
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer images.Close()
	c, m := memory(t, redfish.Faults{FetchesURLs: true})
	const cd = "/redfish/v1/Managers/BMC/VirtualMedia/Cd"
	insert := func(status int, url string) {
		t.Helper()
		c.want(status, "POST", cd+"/Actions/VirtualMedia.InsertMedia", object{"Image": url, "Inserted": true})
	}
	insert(400, "agent.iso")
	insert(500, images.URL+"/none.iso")
	insert(204, images.URL+"/agent.iso")
	insert(409, images.URL+"/agent.iso")
	o := c.get(cd)
	if o["Inserted"] != true || o["Image"] != images.URL+"/agent.iso" || o["ImageName"] != "agent.iso" {
		t.Errorf("the drive shows %v", o)
	}
	if got, _ := m.Media(t.Context()); got != images.URL+"/agent.iso" {
		t.Errorf("the machine has %q in its drive", got)
	}
	c.want(204, "POST", cd+"/Actions/VirtualMedia.EjectMedia", object{})
	c.want(409, "POST", cd+"/Actions/VirtualMedia.EjectMedia", object{})
	if o := c.get(cd); o["Inserted"] != false || o["Image"] != nil {
		t.Errorf("the empty drive shows %v", o)
	}
}
