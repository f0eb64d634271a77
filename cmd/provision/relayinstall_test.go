package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/lab"
)

// splitSite has a manager beside the server, and a worker that is known by what
// the relay in front of it says in option 82. The edge is the router between
// their networks.
const splitSite = `
stages: [{name: prd}]
profiles: [{name: docker, image: debian-12, ssh_keys: ["{{.SSHKey}}"]}]
pools: [{name: prd, stage: prd, profile: docker, cluster: swarm, managers: 1, trust: 1}]
subnets:
  - {name: home, cidr: 10.77.0.0/24, mode: full, ranges: [10.77.0.100-10.77.0.200], router: 10.77.0.254}
  - {name: far, cidr: 10.78.0.0/24, mode: full, ranges: [10.78.0.100-10.78.0.200], router: 10.78.0.1}
rules:
  - {name: near, match: {subnet: home}, pool: prd, role: manager, approve: true, bmc: {username: "{{.BMCUser}}", password_file: "{{.Dir}}/bmc-password"}}
  - {name: far, match: {remote_id: west}, pool: prd, role: worker, approve: true, bmc: {username: "{{.BMCUser}}", password_file: "{{.Dir}}/bmc-password"}}
`

// TestAMachineBehindOurRelayBecomesANodeOfASwarm installs a machine that reaches
// the manager of its Swarm across the edge, and the server by a relay alone.
// Then the server is stopped, the machine's plug is pulled, and it becomes ready
// again in the Swarm all the same: it is sent to its disk by the relay, and its
// system has its own address from there.
func TestAMachineBehindOurRelayBecomesANodeOfASwarm(t *testing.T) {
	if testing.Short() {
		t.Skip("boots two virtual machines: make test runs it")
	}
	r := testRack(t, splitSite,
		lab.Machine{Name: "near", Firmware: lab.BIOS, MAC: "52:54:00:77:00:01"},
		lab.Machine{Name: "far", Firmware: lab.UEFI, MAC: "52:54:00:78:00:01", Remote: true})
	if err := r.applySite(t.Context()); err != nil {
		t.Fatal(err)
	}
	hideServer(t, r)
	edgeLog := startRelay(t, r)
	if err := r.enrol(t.Context(), t.Logf); err != nil {
		t.Fatal(err)
	}
	near, far := becomeSwarm(t, r)
	cameByRelay(t, r, far)
	chunks := sentOnce(t, r)
	before := relayOf(t, r).Usage

	if err := r.stopServer(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	awaitLine(t, edgeLog, "server is away")
	size := fetchAgain(t, r, chunks)
	bootsItsSystem(t, r, near, far)
	begin := time.Now()
	if err := r.startServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitLine(t, edgeLog, "leases handed over")
	until(t, 2*time.Minute, "the node's agent is back", func(ctx context.Context) (bool, error) {
		n, err := r.client.Node(ctx, far.ID)
		return n.LastSeen.After(begin) && n.State == "active" && n.Addr == far.Addr, err
	})
	after := relayOf(t, r).Usage
	if after.Fetched != before.Fetched || after.Served < before.Served+size || after.Away < 2 {
		t.Errorf("the relay's usage was %+v and is %+v; want all chunks from its cache, and an offer and an ACK at least that it gave alone", before, after)
	}
}

// hideServer lets no packet of the remote machines pass to the server. What they
// send to others is routed.
func hideServer(t *testing.T, r *labRack) {
	t.Helper()
	cmd := r.rack.EdgeCommand(t.Context(), "ip", "rule", "add", "iif", lab.EdgeMachines, "to", lab.ServerAddress.Addr().String(), "unreachable")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", cmd.Args, err, out)
	}
}

// becomeSwarm carries out a run of the pool, and returns its manager and its
// worker.
func becomeSwarm(t *testing.T, r *labRack) (near, far api.Node) {
	t.Helper()
	run := r.start(t)
	until(t, 20*time.Minute, "run over", func(ctx context.Context) (bool, error) {
		got, err := r.client.Run(ctx, run.ID)
		run = got
		return err == nil && !got.Ended.IsZero(), err
	})
	var table strings.Builder
	printPhases(&table, run)
	t.Log(table.String())
	if run.State != "done" || run.Done != 2 {
		t.Fatalf("run is %s with %d done, want done with 2: %+v", run.State, run.Done, run.Nodes)
	}
	list, err := r.client.AllNodes(t.Context(), "pool:prd")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range list {
		if n.State != "active" {
			t.Errorf("%s is %s, want active", n.Name, n.State)
		}
		switch n.Role {
		case "manager":
			near = n
		case "worker":
			far = n
		}
	}
	for _, phase := range []string{"dhcp", "loader", "script", "kernel", "hello", "write", "first_boot", "docker", "join"} {
		if !slices.ContainsFunc(run.Nodes, func(n api.RunNode) bool { return n.Node == far.ID && reached(api.Run{Nodes: []api.RunNode{n}}, phase) }) {
			t.Errorf("nothing was heard of phase %s of the worker", phase)
		}
	}
	return near, far
}

// cameByRelay looks whether the worker did all by its relay.
func cameByRelay(t *testing.T, r *labRack, far api.Node) {
	t.Helper()
	want := api.Place{Subnet: "far", Relay: lab.RemoteAddress.Addr().String(), CircuitID: lab.EdgeMachines, RemoteID: "west"}
	if far.Place == nil || *far.Place != want || far.Trust < 1 {
		t.Errorf("the worker is at %+v and proved T%d, want %+v and T1", far.Place, far.Trust, want)
	}
	if u := relayOf(t, r).Usage; u.TFTP.Done == 0 || u.Relayed == 0 {
		t.Errorf("the relay counted %+v, want packets passed on and files sent by TFTP", u)
	}
}

// A piece whose connection broke, on a busy machine, is fetched again: so many at
// most, of a megabyte at most.
const fetchedAgain = 4

// sentOnce looks whether the relay has the whole image, and the server sent the
// pieces of it once. It returns the names of the pieces.
func sentOnce(t *testing.T, r *labRack) (names []string) {
	t.Helper()
	images, err := r.client.Images(t.Context())
	i := slices.IndexFunc(images, func(i api.Image) bool { return i.Name == "debian-12" })
	if err != nil || i < 0 {
		t.Fatalf("images %+v, %v; want debian-12 among them", images, err)
	}
	files, err := filepath.Glob(filepath.Join(r.dir, "relay", "cache", "chunk-*"))
	if err != nil {
		t.Fatal(err)
	}
	var size int64
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
		names = append(names, strings.TrimPrefix(filepath.Base(f), "chunk-"))
	}
	if size != images[i].Stored {
		t.Errorf("the relay has %d bytes of the image, want %d", size, images[i].Stored)
	}
	if u := relayOf(t, r).Usage; u.Fetched < u.CacheBytes || u.Fetched > u.CacheBytes+fetchedAgain<<20 || u.Served < size {
		t.Errorf("the relay has %d bytes and fetched %d for it; it gave %d to machines, want %d of the image at least", u.CacheBytes, u.Fetched, u.Served, size)
	}
	all, err := r.client.Counters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// The manager writes each piece once that is there twice in the image.
	if got, most := all["provision_http_boot_chunks_total"], int64(images[i].Chunks+len(names)+fetchedAgain); got > most || got <= int64(len(names)) {
		t.Errorf("the server sent %d pieces of the image to manager and relay, want %d at most", got, most)
	}
	return names
}

// fetchAgain fetches all pieces of the image from the relay, as a second machine
// would, and returns their size.
func fetchAgain(t *testing.T, r *labRack, names []string) (size int64) {
	t.Helper()
	var list strings.Builder
	for _, name := range names {
		fmt.Fprintf(&list, "url = http://%s%s%s/%s.cacnk\noutput = /dev/null\n", lab.RemoteAddress.Addr(), api.PathChunks, name[:4], name)
	}
	file := filepath.Join(t.TempDir(), "urls")
	if err := os.WriteFile(file, []byte(list.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := r.rack.EdgeCommand(t.Context(), "curl", "-sSf", "--fail-early", "-w", `%{size_download}\n`, "-K", file)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("fetch the image while the server is away: %v: %s", err, tail(out, 3))
	}
	for line := range strings.Lines(string(out)) {
		var n int64
		if _, err := fmt.Sscan(line, &n); err != nil {
			t.Fatalf("curl says %q: %v", line, err)
		}
		size += n
	}
	return size
}

// bootsItsSystem pulls the worker's plug, lets it boot over the network, and
// waits until the manager has it back, at the same address.
func bootsItsSystem(t *testing.T, r *labRack, near, far api.Node) {
	t.Helper()
	if _, err := r.awaitNode(t.Context(), near, "true"); err != nil {
		t.Fatal(err)
	}
	manager := func(limit time.Duration, says string) {
		until(t, limit, "the manager says "+says, func(ctx context.Context) (bool, error) {
			out, err := r.onNode(ctx, near, "sudo docker node inspect --format '{{.Status.State}} {{.Status.Addr}}' "+far.Member)
			return strings.TrimSpace(out) == says, err
		})
	}
	manager(time.Minute, "ready "+far.Addr)
	if err := r.rack.PowerOff("far"); err != nil {
		t.Fatal(err)
	}
	manager(2*time.Minute, "down "+far.Addr)
	if err := r.rack.BootNext("far", "pxe"); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := r.rack.PowerOn(t.Context(), "far"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if _, err := r.rack.WaitConsole(ctx, "far", regexp.MustCompile("has its system and boots it from disk")); err != nil {
		t.Fatal(err)
	}
	manager(10*time.Minute, "ready "+far.Addr)
	t.Logf("power-on to ready in the Swarm without a server in %s", time.Since(begin).Round(time.Second/10))
}
