package main

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/access"
	"github.com/rackstage/provision/engine"
	"github.com/rackstage/provision/fleet"
)

// westOnly keeps one relay, which serves the boot network of the west.
type westOnly struct{}

func (westOnly) Relays(context.Context) ([]fleet.Relay, error) {
	return []fleet.Relay{{
		Name: "west", Subnets: []string{"west"}, Enrolled: time.Unix(1, 0),
		Places: []fleet.RelayAt{{Subnet: "west", Addr: netip.MustParseAddr("10.88.0.1")}},
	}}, nil
}
func (westOnly) SaveRelay(context.Context, fleet.Relay) error { return nil }
func (westOnly) DeleteRelay(context.Context, string) error    { return nil }

// stationFor is one without sockets and database.
func stationFor(t *testing.T) *station {
	t.Helper()
	st := &station{engine: engine.New(engine.Options{}), conf: config{StateDir: t.TempDir(), Listen: listenConfig{HTTP: ":80", HTTPS: ":8443"}}}
	var err error
	if st.relays, err = access.OpenRelays(t.Context(), westOnly{}, nil); err != nil {
		t.Fatal(err)
	}
	return st
}

func (st *station) put(t *testing.T, name string) {
	t.Helper()
	file := filepath.Join(st.conf.StateDir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("MZ"), 0o644); err != nil {
		t.Fatal(err)
	}
}

const siteWithFiles = `
subnets:
- name: rack
  cidr: 10.77.0.0/24
  classes:
  - {name: old, match: {vendor: Old}, boot_file: tools/pxelinux.0}
  - {name: elsewhere, match: {vendor: Else}, boot_file: x.0, boot_server: 10.77.0.9}
  - {name: web, match: {vendor: Web}, boot_file: "http://10.77.0.9/x.efi"}
quirks:
- {vendor: Acme, loader: acme.efi}
- {vendor: Other, loader: ipxe.efi}
scripts:
- name: firmware
  nodes: [prd-01]
  ipxe: |
    #!ipxe
    {{if eq .Product "R650"}}chain {{.Files}}update.efi config={{private "update.cfg"}}{{else}}exit{{end}}
  grub: |
    source {{private "update-grub.cfg"}}
`

// What machines will be told to load is looked for when the server starts and
// when a site is applied, and not when the first of them asks.
func TestAFileThatMachinesWillNeedIsAnAlarmUntilItIsThere(t *testing.T) {
	st := stationFor(t)
	site, err := ParseSite([]byte(siteWithFiles))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		"boot/snponly.efi": "E-BOOT-NO-LOADER loader snponly.efi", "boot/grubx64.efi": "E-BOOT-NO-LOADER loader grubx64.efi",
		"boot/vmlinuz": "E-BOOT-FILE vmlinuz", "boot/initrd.img": "E-BOOT-FILE initrd.img",
		"boot/pxelinux.0":    "E-BOOT-FILE pxelinux.0 of class old on subnet rack",
		"boot/acme.efi":      "E-BOOT-FILE acme.efi of quirks[0]",
		"private/update.cfg": "E-BOOT-FILE update.cfg of script firmware", "private/update-grub.cfg": "E-BOOT-FILE update-grub.cfg of script firmware",
	}
	stands := func() (all []string) {
		for _, a := range st.engine.Alarms() {
			all = append(all, a.Code+" "+a.On)
		}
		return all
	}
	raised := st.raiseBoot(site, nil)
	for file, alarm := range files {
		if !slices.Contains(stands(), alarm) {
			t.Errorf("without %s there is no alarm %q in %q", file, alarm, stands())
		}
		st.put(t, file)
	}
	if extra := slices.DeleteFunc(stands(), func(a string) bool { return strings.HasPrefix(a, "E-BOOT-NO-LOADER") }); len(extra) != 6 {
		t.Errorf("alarms about further files: %q", extra)
	}
	raised = st.raiseBoot(site, raised)
	for file, alarm := range files {
		if slices.Contains(stands(), alarm) {
			t.Errorf("with %s the alarm %q stands", file, alarm)
		}
	}
	if err := os.Truncate(filepath.Join(st.conf.StateDir, "boot/vmlinuz"), 0); err != nil {
		t.Fatal(err)
	}
	raised = st.raiseBoot(site, raised)
	if !slices.Contains(stands(), "E-BOOT-FILE vmlinuz") {
		t.Error("an empty kernel is no alarm")
	}
	// What site.yaml names no more is wanted no more.
	if err := os.Remove(filepath.Join(st.conf.StateDir, "private/update.cfg")); err != nil {
		t.Fatal(err)
	}
	raised = st.raiseBoot(site, raised)
	st.raiseBoot(fleet.Site{}, raised)
	if slices.Contains(stands(), files["private/update.cfg"]) {
		t.Error("the alarm of a script that is gone stands")
	}
}

// The timeline of a machine whose file is not there says so, and what to do.
func TestOnlyAFileThatMachinesAreToldToLoadIsMissedByThem(t *testing.T) {
	site, err := ParseSite([]byte(siteWithFiles))
	if err != nil {
		t.Fatal(err)
	}
	state := t.TempDir()
	if err := errors.Join(os.MkdirAll(filepath.Join(state, "boot"), 0o755), os.WriteFile(filepath.Join(state, "boot", "vmlinuz"), []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"grubx64.efi":     "boot/grubx64.efi is not in " + state + ": fetch it: provision images build loaders",
		"initrd.img":      "boot/initrd.img is not in " + state,
		"vmlinuz":         "", // it is there, if not in the folder that somebody has asked for
		"acme.efi":        "take it out of site.yaml: acme.efi of quirks[0]",
		"pxelinux.0":      "take it out of site.yaml: pxelinux.0 of class old on subnet rack",
		"revocations.efi": "", "update.cfg": "", "": "",
	} {
		if got := absentOn(site, state, file); (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("of %q it is said %q, want %q", file, got, want)
		}
	}
}

func TestASiteThatThisServerCannotServeIsRefused(t *testing.T) {
	subnet := func(more string) []byte {
		return []byte("subnets:\n- name: west\n  cidr: 10.88.0.0/24\n  boot_url: https\n" + more)
	}
	tests := map[string]struct {
		listen string
		src    []byte
		want   string
	}{
		"without a listener":              {"", subnet(""), "set listen.boot_https"},
		"with one, behind a relay":        {":443", subnet(""), "a relay, which has no HTTPS"},
		"with one, and a server it names": {":443", subnet("  server: 10.77.0.1\n"), ""},
		"with one, elsewhere":             {":443", []byte("subnets:\n- {name: rack, cidr: 10.77.0.0/24, boot_url: https}\n"), ""},
		"plain":                           {"", []byte("subnets:\n- {name: rack, cidr: 10.77.0.0/24, boot_url: http}\n"), ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			st := stationFor(t)
			st.conf.Listen.BootHTTPS = tt.listen
			_, err := parseSite("site.yaml", tt.src, st.canServe)
			if tt.want == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			if fleet.KindOf(err) != fleet.Invalid || !strings.Contains(err.Error(), "site.yaml:4:") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want it to point at line 4 and say %q", err, tt.want)
			}
			// It may have been declared before the server was set up otherwise.
			site, err := ParseSite(tt.src)
			if err != nil {
				t.Fatal(err)
			}
			raised := st.raiseBoot(site, nil)
			if raised[alarmKey{fleet.CodeNoBootHTTPS, "subnet west"}] == "" {
				t.Errorf("alarms = %v, want one about subnet west", raised)
			}
		})
	}
}

// Machines behind a relay of ours fetch from the relay, which has no
// certificate that their firmware would trust.
func TestBehindARelayBootFilesComeByPlainHTTP(t *testing.T) {
	st := stationFor(t)
	server := netip.MustParseAddr("10.77.0.1")
	out := st.withRelays([]fleet.Subnet{{Name: "west", BootHTTPS: true}, {Name: "west", BootHTTPS: true, Server: server}, {Name: "rack", BootHTTPS: true}})
	if got := out[0]; got.BootHTTPS || got.Server != netip.MustParseAddr("10.88.0.1") {
		t.Errorf("behind a relay: https %t from %s", got.BootHTTPS, got.Server)
	}
	if got := out[1]; !got.BootHTTPS || got.Server != server {
		t.Errorf("with a server of its own: https %t from %s", got.BootHTTPS, got.Server)
	}
	if got := out[2]; !got.BootHTTPS || got.Server.IsValid() {
		t.Errorf("elsewhere: https %t from %s", got.BootHTTPS, got.Server)
	}
}
