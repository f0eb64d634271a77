package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab"
	"github.com/rackstage/provision/store"
)

// remoteSite has the machines on a network behind a router.
const remoteSite = `
stages: [{name: prd}]
profiles: [{name: docker, image: debian-12}]
pools: [{name: prd, stage: prd, profile: docker, cluster: swarm, managers: 1}]
subnets:
  - {name: home, cidr: 10.77.0.0/24, mode: observe}
  - {name: far, cidr: 10.78.0.0/24, mode: full, ranges: [10.78.0.100-10.78.0.200], router: 10.78.0.1}
`

// startEdge runs a program on the rack's edge until the test ends. Its output
// is in the test's log when it fails.
func startEdge(t *testing.T, r *labRack, argv ...string) (logFile string) {
	t.Helper()
	logFile = filepath.Join(r.dir, "edge.log")
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	cmd := r.rack.EdgeCommand(context.WithoutCancel(t.Context()), argv...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := r.rack.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		_ = log.Close()
		if t.Failed() {
			text, _ := os.ReadFile(logFile)
			t.Logf("edge.log:\n%s", tail(text, 60))
		}
	})
	return logFile
}

// bootsRemote switches a machine on, waits until its agent has said hello, and
// switches it off again.
func bootsRemote(t *testing.T, r *labRack, name, mac string) api.Node {
	t.Helper()
	return bootsMeanwhile(t, r, name, mac, func() {})
}

// bootsMeanwhile does something while the machine boots.
func bootsMeanwhile(t *testing.T, r *labRack, name, mac string, meanwhile func()) api.Node {
	t.Helper()
	begin := time.Now()
	if err := r.rack.PowerOn(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	meanwhile()
	var node api.Node
	until(t, 5*time.Minute, "hello of "+name, func(ctx context.Context) (bool, error) {
		n, err := r.client.Node(ctx, mac)
		node = n
		return err == nil && n.Inventory.Serial != "", nil // an error: it is not known yet
	})
	t.Logf("%s: power-on to hello in %s, at %s", name, time.Since(begin).Round(time.Second/10), node.Addr)
	if err := r.rack.PowerOff(name); err != nil {
		t.Fatal(err)
	}
	return node
}

// TestUEFIHTTPBootsAcrossARouterWithAnotherRelay boots through dnsmasq's DHCP
// relay: nothing of ours is on that network. At first nobody has declared it,
// which the server says; then the firmware's next try is answered.
func TestUEFIHTTPBootsAcrossARouterWithAnotherRelay(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a virtual machine: make test runs it")
	}
	t.Parallel()
	machine := lab.Machine{Name: "n1", Firmware: lab.UEFIHTTP, MAC: "52:54:00:78:00:01", Remote: true}
	r := testRack(t, remoteSite, machine)
	if _, err := r.client.Apply(t.Context(), api.ApplyRequest{YAML: strings.ReplaceAll(remoteSite, "10.78.0.", "10.79.0.")}); err != nil {
		t.Fatal(err)
	}
	startEdge(t, r, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file", "--port=0", "--log-dhcp", "--log-facility=-",
		fmt.Sprintf("--dhcp-relay=%s,%s", lab.RemoteAddress.Addr(), lab.ServerAddress.Addr()))
	node := bootsMeanwhile(t, r, "n1", machine.MAC, func() {
		until(t, time.Minute, "the alarm about the relay", func(ctx context.Context) (bool, error) {
			alarms, err := r.client.Alarms(ctx)
			return slices.ContainsFunc(alarms, func(a api.Alarm) bool {
				return a.Code == fleet.CodeUnknownRelay && strings.Contains(a.On, lab.RemoteAddress.Addr().String())
			}), err
		})
		if err := r.applySite(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	if addr, err := netip.ParseAddr(node.Addr); err != nil || !lab.RemoteAddress.Masked().Contains(addr) {
		t.Errorf("the node is at %q, want an address of %s", node.Addr, lab.RemoteAddress.Masked())
	}
}

// TestASegmentWithOurRelay boots two machines behind a relay of ours that no
// packet can pass but through it, one by PXE and one by HTTP boot, and then two
// nodes whose server is dead, by the BIOS and by HTTP boot.
func TestASegmentWithOurRelay(t *testing.T) {
	if testing.Short() {
		t.Skip("boots four virtual machines: make test runs it")
	}
	t.Parallel()
	active := fleet.Node{
		ID: "n-0000000078", Name: "far-1", MAC: "52:54:00:78:00:03", MACs: []fleet.MAC{"52:54:00:78:00:03"},
		State: fleet.Active, Stage: "prd", Pool: "prd", Approved: true, Addr: netip.MustParseAddr("10.78.0.150"), FirstSeen: time.Now(),
		BMC: fleet.BMC{CipherSuite: -1}, System: fleet.System{InstalledAt: time.Now()}, Revision: 1,
	}
	other := active
	other.ID, other.Name, other.MAC, other.MACs, other.Addr = "n-0000000079", "far-2", "52:54:00:78:00:04", []fleet.MAC{"52:54:00:78:00:04"}, netip.MustParseAddr("10.78.0.151")
	machines := []lab.Machine{
		{Name: "n1", Firmware: lab.UEFI, MAC: "52:54:00:78:00:01", Remote: true},
		{Name: "n2", Firmware: lab.UEFIHTTP, MAC: "52:54:00:78:00:02", Remote: true},
		{Name: "n3", Firmware: lab.BIOS, MAC: string(active.MAC), Remote: true, DiskMiB: 16},
		{Name: "n4", Firmware: lab.UEFIHTTP, MAC: string(other.MAC), Remote: true},
	}
	plan := labPlan{state: os.Getenv("PROVISION_TEST_STATE"), machines: machines, site: remoteSite, hook: os.Getenv("PROVISION_TEST_PROGRAM")}
	r := prepareTestRack(t, plan, func(r *labRack) error { return knows(t.Context(), r, active, other) })
	if err := r.applySite(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.rack.Forwarding(false); err != nil {
		t.Fatal(err)
	}
	edgeLog := startRelay(t, r)

	bootsRemote(t, r, "n1", "52:54:00:78:00:01")
	first := relayOf(t, r)
	bootsRemote(t, r, "n2", "52:54:00:78:00:02")
	second := relayOf(t, r)
	t.Logf("relay fetched %d bytes for the first machine, %d for both, and served %d", first.Usage.Fetched, second.Usage.Fetched, second.Usage.Served)
	// The loader of HTTP boot may be another file than that of PXE.
	if first.Usage.Fetched == 0 || second.Usage.Fetched > first.Usage.Fetched+loaderAtMost || second.Usage.Served < 3*first.Usage.Fetched/2 {
		t.Errorf("usage after the first machine %+v, after the second %+v; want the second from the cache", first.Usage, second.Usage)
	}

	if err := r.stopServer(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	awaitLine(t, edgeLog, "server is away")
	bootsItsDisk(t, r, "n3")
	isSentToItsDisk(t, r, "n4")
	if err := r.startServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitLine(t, edgeLog, "leases handed over")
	if got := relayOf(t, r); got.Usage.Away < 2 {
		t.Errorf("the relay says that it gave %d answers alone, want an offer and an ACK at least", got.Usage.Away)
	}
	hasLeases(t, r, active, other)
}

const loaderAtMost = 4 << 20

// hasLeases looks into the server's own books, once it has stopped.
func hasLeases(t *testing.T, r *labRack, nodes ...fleet.Node) {
	t.Helper()
	if err := r.stopServer(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), filepath.Join(r.dir, "state", "provision.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var leases []fleet.Lease
	if err := db.EachLease(t.Context(), func(l fleet.Lease) { leases = append(leases, l) }); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if !slices.ContainsFunc(leases, func(l fleet.Lease) bool { return l.Addr == n.Addr && l.MAC == n.MAC && l.State == fleet.LeaseBound }) {
			t.Errorf("the server has leases %+v, want one of %s for %s: nobody handed it over", leases, n.Addr, n.MAC)
		}
	}
}

// isSentToItsDisk lets a machine boot by HTTP, and waits until it is told that
// its disk has all it needs.
func isSentToItsDisk(t *testing.T, r *labRack, name string) {
	t.Helper()
	begin := time.Now()
	if err := r.rack.PowerOn(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if _, err := r.rack.WaitConsole(ctx, name, regexp.MustCompile("has its system and boots it from disk")); err != nil {
		t.Fatalf("%s was not sent to its disk: %v", name, err)
	}
	t.Logf("%s: power-on to the word that it has its system, without a server, in %s", name, time.Since(begin).Round(time.Second/10))
	if err := r.rack.PowerOff(name); err != nil {
		t.Fatal(err)
	}
}

// knows makes the server's database know a node before its first start.
func knows(ctx context.Context, r *labRack, nodes ...fleet.Node) error {
	db, err := store.Open(ctx, filepath.Join(r.dir, "state", "provision.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	return errors.Join(db.Save(ctx, fleet.Change{Nodes: nodes}), db.Close()) //nolint:contextcheck // nothing ends the closing early
}

// startRelay adds a relay on the server, enrols it, and runs it on the edge.
func startRelay(t *testing.T, r *labRack, more ...string) (logFile string) {
	t.Helper()
	site, err := r.client.Subnets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var subnets []string
	for _, n := range site.Subnets {
		if strings.HasPrefix(n.Name, "far") {
			subnets = append(subnets, n.Name)
		}
	}
	added, err := r.client.AddRelay(t.Context(), api.AddRelay{Name: "west", Subnets: subnets})
	if err != nil {
		t.Fatal(err)
	}
	token := filepath.Join(r.dir, "token")
	if err := os.WriteFile(token, []byte(added.Token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	logFile = startEdge(t, r, append([]string{
		r.program, "relay", "--server", "https://" + lab.ServerAddress.Addr().String() + ":8443", "--token-file", token,
		"--iface", lab.EdgeMachines, "--state-dir", filepath.Join(r.dir, "relay"),
	}, more...)...)
	awaitLine(t, logFile, "relay started")
	until(t, 10*time.Second, "the relay's first report", func(ctx context.Context) (bool, error) {
		list, err := r.client.Relays(ctx)
		return err == nil && len(list) == 1 && len(list[0].Places) > 0, err
	})
	return logFile
}

func relayOf(t *testing.T, r *labRack) api.Relay {
	t.Helper()
	begin := time.Now()
	var relay api.Relay
	until(t, 30*time.Second, "a report of the relay", func(ctx context.Context) (bool, error) {
		list, err := r.client.Relays(ctx)
		if err != nil || len(list) != 1 || list[0].Seen == nil {
			return false, err
		}
		relay = list[0]
		return relay.Seen.After(begin), nil
	})
	return relay
}

func awaitLine(t *testing.T, file, want string) {
	t.Helper()
	until(t, 30*time.Second, want, func(context.Context) (bool, error) {
		text, err := os.ReadFile(file)
		return strings.Contains(string(text), want), err
	})
}

// bootsItsDisk lets a BIOS machine boot over the network first, and waits for
// what its disk says.
func bootsItsDisk(t *testing.T, r *labRack, name string) {
	t.Helper()
	for _, s := range r.rack.Status() {
		if s.Machine.Name != name {
			continue
		}
		if err := os.WriteFile(filepath.Join(s.Dir, "disk.img"), lab.SpeakingDisk(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.rack.BootNext(name, "pxe"); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := r.rack.PowerOn(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for _, says := range []string{"has its system and boots it from disk", lab.DiskSays} {
		if _, err := r.rack.WaitConsole(ctx, name, regexp.MustCompile(says)); err != nil {
			t.Fatalf("%s never said %q: %v", name, says, err)
		}
	}
	t.Logf("%s: power-on to its disk without a server in %s", name, time.Since(begin).Round(time.Second/10))
}
