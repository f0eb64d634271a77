package lab

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/lab/redfish"
)

const (
	labSystem = "/redfish/v1/Systems/" + redfishSystem
	labDrive  = "/redfish/v1/Managers/BMC/VirtualMedia/Cd"
)

// A redfishClient asks the BMC of a machine in a rack.
type redfishClient struct {
	m      Machine
	client *http.Client
}

func redfishTo(t *testing.T, r *Rack, m Machine) redfishClient {
	t.Helper()
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // a certificate that nobody knows
		DialContext:     r.Dial,
	}
	t.Cleanup(transport.CloseIdleConnections)
	return redfishClient{m, &http.Client{Transport: transport}}
}

func (c redfishClient) do(ctx context.Context, t *testing.T, method, path string, in any) (status int, out map[string]any) {
	t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(ctx, method, "https://"+c.m.BMC.Address.String()+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(c.m.BMC.Username, c.m.BMC.Password)
	answer, err := c.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	_ = json.NewDecoder(answer.Body).Decode(&out) // 204 has none
	return answer.StatusCode, out
}

// try looks at the system, and returns the status.
func (c redfishClient) try(ctx context.Context) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+c.m.BMC.Address.String()+labSystem, http.NoBody)
	if err != nil {
		return 0, err
	}
	req.SetBasicAuth(c.m.BMC.Username, c.m.BMC.Password)
	answer, err := c.client.Do(req)
	if err != nil {
		return 0, err
	}
	return answer.StatusCode, answer.Body.Close()
}

func (c redfishClient) order(ctx context.Context, t *testing.T, method, path string, in any) {
	t.Helper()
	if status, out := c.do(ctx, t, method, path, in); status >= 300 {
		t.Fatalf("%s %s %v: status %d: %v", method, path, in, status, out)
	}
}

func (c redfishClient) reset(ctx context.Context, t *testing.T, kind string) {
	t.Helper()
	c.order(ctx, t, "POST", labSystem+"/Actions/ComputerSystem.Reset", map[string]any{"ResetType": kind})
}

func (c redfishClient) boot(ctx context.Context, t *testing.T, target, url string) {
	t.Helper()
	boot := map[string]any{"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": target}
	if url != "" {
		boot["HttpBootUri"] = url
	}
	c.order(ctx, t, "PATCH", labSystem, map[string]any{"Boot": boot})
}

// serveInside answers HTTP on the rack's bridge.
func serveInside(t *testing.T, r *Rack, h http.HandlerFunc) {
	t.Helper()
	var l net.Listener
	err := r.namespace().do(func() (err error) {
		l, err = new(net.ListenConfig).Listen(t.Context(), "tcp", "10.77.0.1:80")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
}

func TestAMachineBootsFromAVirtualCDOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a machine")
	}
	m := small(BIOS)
	m.BMC.Speaks = Redfish
	r := up(t, m)
	m = r.Machines()[0]
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	serveInside(t, r, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(speakingCD()) })
	asked := discover(ctx, t, r)
	c := redfishTo(t, r, m)

	c.order(ctx, t, "POST", labDrive+"/Actions/VirtualMedia.InsertMedia", map[string]any{"Image": "http://10.77.0.1/boot.iso"})
	if _, out := c.do(ctx, t, "GET", labDrive, nil); out["Image"] != "http://10.77.0.1/boot.iso" {
		t.Errorf("the drive shows %v, want the URL that it was given", out["Image"])
	}
	c.boot(ctx, t, "Cd", "")
	c.reset(ctx, t, "On")
	if _, err := r.WaitConsole(ctx, "n1", regexp.MustCompile(DiskSays)); err != nil {
		t.Fatal(err)
	}
	if _, out := c.do(ctx, t, "GET", labSystem, nil); out["PowerState"] != "On" || out["SerialNumber"] != m.Serial {
		t.Errorf("the system shows %v, %v", out["PowerState"], out["SerialNumber"])
	}
	drain(asked)
	c.reset(ctx, t, "ForceRestart") // now the disk, which is empty, and the network
	receive(ctx, t, asked)
	if text, err := r.bays[0].consoleText(); err != nil || strings.Contains(string(text), DiskSays) {
		t.Errorf("the machine has booted its CD again: %q, %v", text, err)
	}
	c.order(ctx, t, "POST", labDrive+"/Actions/VirtualMedia.EjectMedia", map[string]any{})
	c.boot(ctx, t, "Cd", "")
	drain(asked)
	c.reset(ctx, t, "ForceRestart")
	receive(ctx, t, asked) // an empty drive
	c.reset(ctx, t, "Nmi")
	c.reset(ctx, t, "ForceOff")
	if r.Status()[0].On {
		t.Error("the machine is on after power off")
	}
	if err := r.SetRedfishFaults("n1", redfish.Faults{Lying: true}); err != nil {
		t.Fatal(err)
	}
	c.reset(ctx, t, "On")
	if r.Status()[0].On {
		t.Error("a lying BMC has switched the machine on")
	}
}

func TestAMachineBootsFromTheURLThatItsBMCWasGiven(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a machine")
	}
	m := small(UEFI)
	m.BMC.Speaks = Both
	r := up(t, m)
	m = r.Machines()[0]
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	fetched := make(chan string, 16)
	serveInside(t, r, func(w http.ResponseWriter, req *http.Request) {
		select {
		case fetched <- req.URL.Path:
		default:
		}
		w.WriteHeader(http.StatusNotFound)
	})
	dhcp := r.Command(ctx, "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface="+Bridge, "--bind-interfaces",
		"--dhcp-range=10.77.0.100,10.77.0.120,5m", "--dhcp-leasefile="+t.TempDir()+"/leases")
	if err := r.Start(dhcp); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = dhcp.Process.Kill()
		_ = dhcp.Wait()
	}()
	c := redfishTo(t, r, m)
	c.boot(ctx, t, "UefiHttp", "http://10.77.0.1/from-redfish.efi")
	ipmi := login(ctx, t, r, m)
	if powered(ctx, t, ipmi) {
		t.Error("by IPMI the machine is on before it was switched on")
	}
	began := time.Now()
	c.reset(ctx, t, "On")
	if !powered(ctx, t, ipmi) {
		t.Error("by IPMI the machine is off after Redfish has switched it on")
	}
	select {
	case path := <-fetched:
		t.Logf("%s asked for %s after power on", path, time.Since(began).Round(time.Millisecond))
		if path != "/from-redfish.efi" {
			t.Errorf("the machine asked for %s", path)
		}
	case <-ctx.Done():
		text, _ := r.bays[0].consoleText()
		t.Fatalf("the machine never asked for the URL; its last words: %q", tail(text, 600))
	}
	if _, out := c.do(ctx, t, "GET", labSystem, nil); fmt.Sprint(out["Boot"].(map[string]any)["BootSourceOverrideTarget"]) != "None" {
		t.Errorf("after the start the override is %v", out["Boot"])
	}
}

// speakingCD is a CD that says what a [SpeakingDisk] says: an El Torito image
// without emulation.
func speakingCD() []byte {
	const sector = 2048
	cd := make([]byte, 32*sector)
	copy(cd[16*sector:], "\x01CD001\x01")
	copy(cd[17*sector:], "\x00CD001\x01EL TORITO SPECIFICATION")
	binary.LittleEndian.PutUint32(cd[17*sector+0x47:], 19)
	copy(cd[18*sector:], "\xffCD001\x01")
	copy(cd[19*sector:], []byte{1})
	cd[19*sector+28], cd[19*sector+29] = 0xaa, 0x55 // the words of the first entry make zero
	cd[19*sector+30], cd[19*sector+31] = 0x55, 0xaa
	cd[19*sector+32] = 0x88                              // can be booted
	binary.LittleEndian.PutUint16(cd[19*sector+38:], 4)  // sectors of 512
	binary.LittleEndian.PutUint32(cd[19*sector+40:], 20) // where
	copy(cd[20*sector:], SpeakingDisk()[:sector])
	return cd
}

func TestFirmwareVariablesAreWrittenAsEDK2ReadsThem(t *testing.T) {
	store, err := os.ReadFile(ovmfVars)
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{"first", "second, which is longer"} {
		if err := setVariable(store, "Boot0077", []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	if err := setVariable(store, "BootNext", []byte{0x77, 0}); err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	_, _, err = walk(store, func(v []byte, name string) {
		if _, twice := found[name]; twice {
			t.Errorf("%s is there twice", name)
		}
		n, d := binary.LittleEndian.Uint32(v[36:]), binary.LittleEndian.Uint32(v[40:])
		found[name] = string(v[variableHeader+n : variableHeader+n+d])
	})
	if err != nil || found["Boot0077"] != "second, which is longer" || found["BootNext"] != "w\x00" {
		t.Errorf("found %q, %v", found, err)
	}
	if err := setVariable(store, "Big", make([]byte, len(store))); err == nil {
		t.Error("more was written than there is room for")
	}
	for name, wrong := range map[string][]byte{"nothing": nil, "zeros": make([]byte, 1<<16), "half a volume": store[:100]} {
		if err := setVariable(wrong, "BootNext", []byte{1, 0}); err == nil {
			t.Errorf("%s was taken for a variable store", name)
		}
	}
}

func TestABMCShowsTheOverrideThatTheOtherProtocolHasSet(t *testing.T) {
	b := testBay(t)
	p := &plug{b}
	for device, want := range map[string]string{"pxe": "Pxe", "default": "Hdd", "cdrom": "Cd", "bios": "BiosSetup"} {
		if _, err := hook(t.Context(), b, "chassis set boot "+device); err != nil {
			t.Fatal(err)
		}
		got, err := p.Boot(t.Context())
		if err != nil || got != (redfish.Boot{Enabled: "Once", Target: want, Mode: "UEFI"}) {
			t.Errorf("after IPMI's %s Redfish shows %+v, %v", device, got, err)
		}
		if err := p.SetBoot(t.Context(), redfish.NoOverride); err != nil {
			t.Fatal(err)
		}
		if err := p.SetBoot(t.Context(), got); err != nil {
			t.Fatal(err)
		}
		if text, err := hook(t.Context(), b, "chassis get boot"); err != nil || text != "boot:"+device+"\n" {
			t.Errorf("after Redfish's %s IPMI shows %q, %v", want, text, err)
		}
	}
	always := redfish.Boot{Enabled: "Continuous", Target: "UefiHttp", Mode: "UEFI", URL: "http://10.0.0.1/x.efi"}
	if err := p.SetBoot(t.Context(), always); err != nil {
		t.Fatal(err)
	}
	if got, err := p.Boot(t.Context()); err != nil || got != always {
		t.Errorf("Boot = %+v, %v, want %+v", got, err, always)
	}
}

func TestAccountsThatIPMIMakesHoldForRedfish(t *testing.T) {
	m := small(BIOS)
	m.BMC.Speaks = Both
	r := up(t, m)
	m = r.Machines()[0]
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ipmi := login(ctx, t, r, m)
	const user, password = "provision", "N3wPassw0rdN3wPw"
	if _, err := ipmi.SetUsername(ctx, 5, user); err != nil {
		t.Fatal(err)
	}
	if _, err := ipmi.SetUserPassword(ctx, 5, password, false); err != nil {
		t.Fatal(err)
	}
	if err := ipmi.EnableUser(ctx, 5); err != nil {
		t.Fatal(err)
	}
	m.BMC.Username, m.BMC.Password = user, password
	c := redfishTo(t, r, m)
	if status, err := c.try(ctx); err != nil || status != http.StatusOK {
		t.Errorf("with the new account: status %d, %v", status, err)
	}
	c.m.BMC.Password = "wrong"
	if status, err := c.try(ctx); err != nil || status != http.StatusUnauthorized {
		t.Errorf("with a wrong password: status %d, %v", status, err)
	}
}

func TestWhatIPMISimKeepsOfItsUsers(t *testing.T) {
	tests := map[string]struct {
		text string
		want []redfish.Account
	}{
		"nothing":               {"", nil},
		"no lines":              {"x\n5.username\n5.username:d\nusername:d:x\n", nil},
		"an empty slot":         {"5.passwd:d:\\00\\00\n5.username:d:\\00\n5.valid:i:1\n", nil},
		"one that is disabled":  {"5.passwd:d:secret\n5.username:d:me\n5.valid:i:0\n", nil},
		"one":                   {"5.privilege:i:3\n5.passwd:d:a\\3ab\\5c\\00\\00\n5.username:d:me\\00\n5.valid:i:1\n", []redfish.Account{{Username: "me", Password: `a:b\`, Operator: true}}},
		"an escape that is cut": {"5.passwd:d:a\\3\n5.username:d:me\n5.valid:i:1\n", []redfish.Account{{Username: "me", Password: `a\3`}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := parseSimUsers(tt.text); !slices.Equal(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}
