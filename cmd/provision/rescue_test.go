package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab"
	"github.com/rackstage/provision/store"
)

const rescueSite = `
stages: [{name: prd}]
profiles: [{name: docker, image: debian-12, ssh_keys: ["KEY"]}]
pools: [{name: prd, stage: prd, profile: docker}]
subnets: [{name: rack, cidr: 10.77.0.0/24, mode: full, ranges: [10.77.0.100-10.77.0.200], lease: 1h}]
`

// A person has one machine in rescue from afar, then from its own menu, and
// tests its memory: three real boots.
func TestAMachineIsRescuedAndItsMemoryTested(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a virtual machine three times: make test runs it")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	site := strings.Replace(rescueSite, "KEY", strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey()))), 1)
	r := rescueRack(t, site, lab.BIOS)
	state := func() string {
		n, err := r.client.Node(ctx, "ill")
		if err != nil {
			t.Fatal(err)
		}
		return n.State
	}

	if _, err := r.client.Rescue(ctx, "ill", api.RescueRequest{}); err != nil {
		t.Fatal(err)
	}
	press := sitBefore(ctx, t, r)
	waitConsole(ctx, t, r, "ill", `ssh is open`)
	press("\necho $((40+2)) $(whoami); dd if=/dev/zero of=/dev/vda count=1\n")
	waitConsole(ctx, t, r, "ill", `\n42 root`)
	waitConsole(ctx, t, r, "ill", `dd: [^\n]*(Operation not permitted|Read-only)`)
	if got := overSSH(ctx, t, r, key, "cat /proc/cmdline; echo >&2 bad; exit 3"); !strings.Contains(got, "provision.rescue=") || strings.Contains(got, "ticket") {
		t.Errorf("its kernel's command line is %q, want one without a ticket", got)
	}
	if got := state(); got != "rescue" {
		t.Errorf("the server says that it is %s, want rescue", got)
	}

	if _, err := r.client.Rescue(ctx, "ill", api.RescueRequest{End: true}); err != nil {
		t.Fatal(err)
	}
	if got := state(); got != "ready" {
		t.Errorf("when its rescue has ended it is %s, want ready", got)
	}
	if _, err := r.client.Apply(ctx, api.ApplyRequest{YAML: site + "menu: true\n"}); err != nil {
		t.Fatal(err)
	}
	again := func(item, key string) {
		said := len(bootConsole(t, r, "ill")())
		if err := netBoot(ctx, r, "ill"); err != nil {
			t.Fatal(err)
		}
		press("\nreboot\n")
		waitAfter(ctx, t, r, "ill", said, item)
		press(key)
	}
	again("Rescue system", "r")
	waitConsole(ctx, t, r, "ill", `(?s)Rescue system.*nobody may sign in by ssh|(?s)Rescue system.*ssh is open`)
	if got := state(); got != "rescue" {
		t.Errorf("after its menu's rescue it is %s, want rescue", got)
	}
	again("Memory test", "t")
	waitConsole(ctx, t, r, "ill", `Memtest86\+`)
	if got := state(); got != "ready" {
		t.Errorf("after it has started again it is %s, want ready", got)
	}
}

// On UEFI a person chooses the memory test in iPXE's menu, and with Secure Boot
// the rescue system in GRUB's.
func TestTheMenusOfUEFI(t *testing.T) {
	if testing.Short() {
		t.Skip("boots two virtual machines: make test runs it")
	}
	const down = "\x1b[B"
	tests := []struct {
		name     string
		firmware lab.Firmware
		menu     string // the last that it shows
		keys     string
		console  string
	}{
		{"uefi", lab.UEFI, `Switch off`, "t", `Memtest86\+`},
		{"uefi-sb", lab.SB, `Switch off`, down + down + down + "\r", `press Enter for a shell`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			r := rescueRack(t, strings.Replace(rescueSite, `ssh_keys: ["KEY"]`, "menu: true", 1), tt.firmware)
			press := sitBefore(ctx, t, r)
			waitConsole(ctx, t, r, "ill", tt.menu)
			press(tt.keys)
			waitConsole(ctx, t, r, "ill", tt.console)
		})
	}
}

// rescueRack is a machine that the server knows as ready.
func rescueRack(t *testing.T, site string, firmware lab.Firmware) *labRack {
	t.Helper()
	machines := []lab.Machine{{Name: "ill", Firmware: firmware, DiskMiB: 64, MemoryMiB: 768, CPUs: 1, MAC: "52:54:00:7a:00:01"}}
	state, program := os.Getenv("PROVISION_TEST_STATE"), os.Getenv("PROVISION_TEST_PROGRAM")
	if state == "" || program == "" {
		t.Fatal("PROVISION_TEST_STATE and PROVISION_TEST_PROGRAM are not set: run this by `make test`, which builds what they name")
	}
	r := prepareTestRack(t, labPlan{state: state, machines: machines, site: site, hook: program}, func(r *labRack) error {
		node := fleet.Node{
			ID: fleet.NewNodeID(), Name: "ill", MAC: "52:54:00:7a:00:01", MACs: []fleet.MAC{"52:54:00:7a:00:01"}, State: fleet.Ready,
			Pool: "prd", Stage: "prd", Approved: true, Revision: 1, Inventory: fleet.Inventory{Firmware: map[bool]string{true: "bios", false: "uefi"}[firmware == lab.BIOS], Secure: firmware == lab.SB},
		}
		s, err := store.Open(t.Context(), filepath.Join(r.dir, "state/provision.db"), slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		defer s.Close()
		return s.Save(t.Context(), fleet.Change{Nodes: []fleet.Node{node}})
	})
	if err := r.applySite(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

// sitBefore switches the machine on, from the network, and returns how to type
// at it.
func sitBefore(ctx context.Context, t *testing.T, r *labRack) (press func(text string)) {
	t.Helper()
	if err := errors.Join(netBoot(ctx, r, "ill"), r.rack.PowerOn(ctx, "ill")); err != nil {
		t.Fatal(err)
	}
	keys, err := r.rack.Type(ctx, "ill")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = keys.Close() })
	go func() { _, _ = io.Copy(io.Discard, keys) }() // ends with it; what is said is in a file
	return func(text string) {
		t.Helper()
		if _, err := io.WriteString(keys, text); err != nil {
			t.Fatal(err)
		}
	}
}

// waitAfter waits until a machine's console says something behind a place.
func waitAfter(ctx context.Context, t *testing.T, r *labRack, name string, from int, text string) {
	t.Helper()
	said, re := bootConsole(t, r, name), regexp.MustCompile(text)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !re.MatchString(said()[min(from, len(said())):]) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			all := said()
			t.Fatalf("the console never said %q; its last words: %q", text, all[max(0, len(all)-3000):])
		}
	}
}

// overSSH runs a command on the machine, which ends with 3.
func overSSH(ctx context.Context, t *testing.T, r *labRack, key ssh.Signer, command string) string {
	t.Helper()
	leases, err := r.client.Leases(ctx, "rack")
	if err != nil || len(leases) != 1 {
		t.Fatalf("leases %+v, %v; want that of the machine", leases, err)
	}
	at := netip.AddrPortFrom(netip.MustParseAddr(leases[0].Addr), 22).String()
	conn, err := r.rack.Dial(ctx, "tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	c, chans, reqs, err := ssh.NewClientConn(conn, at, &ssh.ClientConfig{
		User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(), //nolint:gosec // inside our namespace
	})
	if err != nil {
		t.Fatal(err)
	}
	client := ssh.NewClient(c, chans, reqs)
	defer client.Close()
	s, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.RequestPty("xterm", 24, 80, nil); err != nil {
		t.Error(err)
	}
	out, err := s.CombinedOutput(command)
	if exit, ok := err.(*ssh.ExitError); !ok || exit.ExitStatus() != 3 { //nolint:errorlint // as the package returns it
		t.Errorf("the command ended with %v, want status 3", err)
	}
	return string(out)
}
