package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/lab"
)

// The tests in this file boot virtual machines with real firmware from the
// real binary. `make test` builds what they need and runs them as root.
// Each rack has its own network namespaces, so that tests whose machines wait
// for firmware and timeouts most of the time run beside each other, two at a
// time on two cores. Those that keep all cores busy do not.

// testRack raises a rack of the given machines, with the built program as its
// server and BMC hook, and images from where `make test` puts them.
func testRack(t *testing.T, site string, machines ...lab.Machine) *labRack {
	t.Helper()
	state, _ := testImages(t)
	return testRackFrom(t, state, site, machines...)
}

func testRackFrom(t *testing.T, state, site string, machines ...lab.Machine) *labRack {
	t.Helper()
	return raiseTestRack(t, labPlan{state: state, machines: machines, site: site, hook: os.Getenv("PROVISION_TEST_PROGRAM")})
}

// testImages returns where `make test` has put images and program.
func testImages(t *testing.T) (state, program string) {
	t.Helper()
	state, program = os.Getenv("PROVISION_TEST_STATE"), os.Getenv("PROVISION_TEST_PROGRAM")
	if state == "" || program == "" {
		t.Fatal("PROVISION_TEST_STATE and PROVISION_TEST_PROGRAM are not set: run this by `make test`, which builds what they name")
	}
	return state, program
}

func raiseTestRack(t *testing.T, plan labPlan) *labRack {
	t.Helper()
	return prepareTestRack(t, plan, func(*labRack) error { return nil })
}

// prepareTestRack raises a rack and prepares it before its server starts.
func prepareTestRack(t *testing.T, plan labPlan, prepare func(*labRack) error) *labRack {
	t.Helper()
	dir, err := os.MkdirTemp("", "plab") //nolint:usetesting // sockets need short paths
	if err != nil {
		t.Fatal(err)
	}
	plan.dir = dir
	r, err := raiseLab(t.Context(), plan)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			showLogs(t, r)
		}
		if err := r.down(); err != nil {
			t.Errorf("tear the rack down: %v", err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := prepare(r); err != nil {
		t.Fatal(err)
	}
	if err := r.startServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

func showLogs(t *testing.T, r *labRack) {
	t.Helper()
	text, _ := os.ReadFile(filepath.Join(r.dir, "serve.log"))
	t.Logf("serve.log:\n%s", tail(text, 60))
	for _, m := range r.rack.Machines() {
		if path, err := r.rack.Console(m.Name); err == nil {
			text, _ := os.ReadFile(path)
			t.Logf("console of %s:\n%s", m.Name, tail(text, 60))
		}
	}
}

// until polls cond twice a second, for at most limit.
func until(t *testing.T, limit time.Duration, what string, cond func(ctx context.Context) (bool, error)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		ok, err := cond(ctx)
		if ok && err == nil {
			return
		}
		last = err
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: not within %s (%v)", what, limit, last)
		}
	}
}

// start starts a run of pool prd and returns it.
func (r *labRack) start(t *testing.T) api.Run {
	t.Helper()
	plan, err := r.client.Plan(t.Context(), "prd")
	if err != nil {
		t.Fatal(err)
	}
	run, err := r.client.Start(t.Context(), "prd", api.StartRun{Plan: plan.Hash})
	if err != nil {
		t.Fatal(err)
	}
	return run
}

func reached(run api.Run, phase string) bool {
	return slices.ContainsFunc(run.Nodes, func(n api.RunNode) bool {
		return n.Phase == phase || slices.ContainsFunc(n.Times, func(p api.PhaseTime) bool { return p.Phase == phase })
	})
}

// Three machines, one with BIOS and two with UEFI, become one Swarm although
// the server is killed in the middle of each part of the way.
func TestBareMachinesBecomeASwarmWhileTheServerIsKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("boots three virtual machines: make test runs it")
	}
	r := testRack(t, labSite, lab.DefaultRack(3)...)
	if err := r.enrol(t.Context(), t.Logf); err != nil {
		t.Fatal(err)
	}
	run := r.start(t)
	for _, phase := range []string{"power", "dhcp", "hello", "write", "reboot", "first_boot", "join"} {
		until(t, 15*time.Minute, "phase "+phase, func(ctx context.Context) (bool, error) {
			got, err := r.client.Run(ctx, run.ID)
			return reached(got, phase) || got.State == "failed", err
		})
		if err := r.stopServer(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		t.Logf("server killed in phase %s", phase)
		if err := r.startServer(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	until(t, 15*time.Minute, "run over", func(ctx context.Context) (bool, error) {
		got, err := r.client.Run(ctx, run.ID)
		run = got
		return err == nil && !got.Ended.IsZero(), err
	})
	if run.State != "done" || run.Done != 3 {
		t.Fatalf("run is %s with %d done, want done with 3: %+v", run.State, run.Done, run.Nodes)
	}
	var table strings.Builder
	printPhases(&table, run)
	t.Log(table.String())
	checkSwarm(t, r)
	checkAsDeclared(t, r)
	checkNoToken(t, r)
	checkFed(t, r)
}

// checkFed reads on the machines' consoles where their chunks came from: they
// wrote the same image at about the same time, so they fed each other.
func checkFed(t *testing.T, r *labRack) {
	t.Helper()
	sources := regexp.MustCompile(`(\d+) MiB packed from the server, (\d+) MiB from the rack`)
	var server, rack int
	for _, m := range r.rack.Machines() {
		path, err := r.rack.Console(m.Name)
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		found := sources.FindSubmatch(text)
		if found == nil {
			t.Errorf("the console of %s does not say where its chunks came from", m.Name)
			continue
		}
		fromServer, _ := strconv.Atoi(string(found[1])) // digits
		fromRack, _ := strconv.Atoi(string(found[2]))
		t.Logf("%s: %d MiB from the server, %d MiB from the rack", m.Name, fromServer, fromRack)
		server, rack = server+fromServer, rack+fromRack
	}
	if rack == 0 {
		t.Errorf("all %d MiB came from the server: the machines did not feed each other", server)
	}
}

// checkSwarm asks the manager itself, by its own docker.
func checkSwarm(t *testing.T, r *labRack) {
	t.Helper()
	var out strings.Builder
	if err := r.show(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	t.Log(out.String())
	if ready := strings.Count(out.String(), " Ready "); ready != 3 {
		t.Errorf("docker node ls shows %d Ready nodes, want 3", ready)
	}
	if leaders := strings.Count(out.String(), " Leader "); leaders != 1 {
		t.Errorf("docker node ls shows %d leaders, want 1", leaders)
	}
}

// checkAsDeclared runs the command once more: there is nothing to do.
func checkAsDeclared(t *testing.T, r *labRack) {
	t.Helper()
	var stdout, stderr strings.Builder
	a := newApp(&stdout, &stderr)
	code := a.run(t.Context(), []string{"--pool", "prd", "--server", "unix:" + r.socket()})
	if code != exitOK || !strings.Contains(stdout.String(), "pool prd is as declared: 3 keep. Nothing to do.") {
		t.Errorf("provision --pool prd = %d, %q, %q; want 0 and as declared", code, stdout.String(), stderr.String())
	}
}

// checkNoToken looks for join tokens in everything that server and rack have
// ever written: database, logs, consoles. The machines' disks are theirs.
func checkNoToken(t *testing.T, r *labRack) {
	t.Helper()
	token := regexp.MustCompile(`SWMTKN-1-[0-9a-z]{20}`)
	seen := 0
	err := filepath.WalkDir(r.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || d.Name() == "disk.img" {
			return err
		}
		text, err := os.ReadFile(path)
		if token.Match(text) {
			t.Errorf("a join token is in %s", path)
		}
		seen++
		return err
	})
	if err != nil || seen < 5 {
		t.Errorf("looked into %d files: %v", seen, err)
	}
}

// strangersSite approves nobody by itself but the machine with the small disk,
// whose BMC gets an account of ours, and the one that gets the damaged image.
const strangersSite = `
stages: [{name: prd}]
profiles: [{name: docker, image: debian-12}]
pools: [{name: prd, stage: prd, profile: docker, cluster: swarm, managers: 1, trust: 1}]
subnets: [{name: rack, cidr: 10.77.0.0/24, mode: full, ranges: [10.77.0.100-10.77.0.200], lease: 1h}]
rules:
  - {name: small, match: {serial: SMALL}, pool: prd, approve: true}
  - {name: damaged, match: {serial: DAMAGED}, pool: prd, approve: true, bmc: {username: admin, password_file: "{{.Dir}}/bmc-password"}}
  - {name: others, match: {subnet: rack}, pool: prd}
`

// A stranger gets nothing but "wait"; a disk that is too small and a chunk
// that is damaged end in failures with a name, the first before anything is
// written.
func TestWhatCannotBeInstalledFailsWithItsName(t *testing.T) {
	if testing.Short() {
		t.Skip("boots three virtual machines: make test runs it")
	}
	state, damaged := damagedState(t)
	machines := lab.DefaultRack(3)
	machines[0].Serial, machines[0].DiskMiB = "SMALL", 512
	machines[1].Serial = "DAMAGED"
	machines[2].Serial = "STRANGER"
	r := testRackFrom(t, state, strangersSite, machines...)
	if err := r.applySite(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, m := range machines {
		if err := r.rack.PowerOn(t.Context(), m.Name); err != nil {
			t.Fatal(err)
		}
	}
	nodes := map[string]api.Node{}
	until(t, 10*time.Minute, "three machines said hello and two of them are off", func(ctx context.Context) (bool, error) {
		list, err := r.client.AllNodes(ctx, "")
		for _, n := range list {
			nodes[n.Inventory.Serial] = n
		}
		status := r.rack.Status()
		return len(list) == 3 && !status[0].On && !status[1].On, err
	})
	if got := nodes["STRANGER"].State; got != "discovered" {
		t.Errorf("the stranger is %s, want discovered", got)
	}
	checkEnrolled(t, r, nodes["SMALL"].ID)
	run := r.start(t)
	until(t, 15*time.Minute, "run over", func(ctx context.Context) (bool, error) {
		got, err := r.client.Run(ctx, run.ID)
		run = got
		return err == nil && !got.Ended.IsZero(), err
	})
	checkFailure(t, run, nodes["SMALL"].ID, "E-DISK-SMALL", "")
	checkFailure(t, run, nodes["DAMAGED"].ID, "E-CHUNK-CORRUPT", damaged)
	for _, n := range run.Nodes {
		if n.Node == nodes["STRANGER"].ID {
			t.Errorf("the stranger is in the run: %+v", n)
		}
	}
	checkConsole(t, r, nodes["DAMAGED"].ID)
	checkUntouched(t, r, machines[0].Name)
	checkUntouched(t, r, machines[2].Name)
	if _, err := r.rack.WaitConsole(t.Context(), machines[2].Name, regexp.MustCompile(`(?i)wait`)); err != nil {
		t.Errorf("the stranger's console does not say that it waits: %v", err)
	}
	if !r.rack.Status()[2].On {
		t.Error("the stranger was switched off: it shall wait")
	}
}

// checkEnrolled looks at a node whose BMC nobody gave us an account of: its
// agent made one, the server signs in with it and gives it a new password, and
// finds what is wrong with the BMC.
func checkEnrolled(t *testing.T, r *labRack, id string) {
	t.Helper()
	n, err := r.client.RotateBMC(t.Context(), id)
	if err != nil {
		t.Fatalf("rotate the password of an account of ours: %v", err)
	}
	if n.Power == nil || n.Power.Username != "provision" || n.Power.CipherSuite != 3 {
		t.Errorf("the BMC is used as %+v, want user provision with cipher suite 3", n.Power)
	}
	if state, err := r.client.Power(t.Context(), id, api.PowerRequest{Op: "status"}); err != nil || state != "off" {
		t.Errorf("power status = %s, %v, want off", state, err)
	}
	zero := func(f api.BMCFinding) bool { return f.Code == "E-BMC-CIPHER-ZERO" }
	until(t, time.Minute, "cipher suite 0 of ipmi_sim is found", func(ctx context.Context) (bool, error) {
		n, err := r.client.Node(ctx, id)
		return slices.ContainsFunc(n.Findings, zero), err
	})
}

// checkConsole looks at what is known of a failed machine's serial console, which
// came through its BMC: the last lines with the failure, and a record of the boot.
func checkConsole(t *testing.T, r *labRack, id string) {
	t.Helper()
	n, err := r.client.Node(t.Context(), id)
	if err != nil || n.Failure == nil || !strings.Contains(n.Failure.Console, "provision: ") {
		t.Errorf("the failure comes without the machine's last words: %+v, %v", n.Failure, err)
	}
	records, err := r.client.ConsoleRecords(t.Context(), id)
	if err != nil || len(records) == 0 || records[0].Why != "power" {
		t.Errorf("records of the console: %+v, %v; want one that began with the power", records, err)
	}
	log, err := r.client.ConsoleLog(t.Context(), id, api.ConsoleQuery{Match: "agent started"})
	if err != nil || len(log.Lines) == 0 {
		t.Errorf("the agent's first line is not in the record: %+v, %v", log, err)
	}
}

func checkFailure(t *testing.T, run api.Run, node, code, text string) {
	t.Helper()
	i := slices.IndexFunc(run.Nodes, func(n api.RunNode) bool { return n.Node == node })
	if i < 0 {
		t.Fatalf("node %s is not in the run", node)
	}
	f := run.Nodes[i].Failure
	if f == nil || f.Code != code || !strings.Contains(f.Text, text) {
		t.Errorf("node %s failed with %+v, want %s naming %q", node, f, code, text)
	}
}

// checkUntouched reads a machine's whole disk: it is as empty as it came.
func checkUntouched(t *testing.T, r *labRack, name string) {
	t.Helper()
	disks, err := filepath.Glob(filepath.Join(rackDir(r.dir), name, "disk*"))
	if err != nil || len(disks) != 1 {
		t.Fatalf("disk of %s: %v, %v", name, disks, err)
	}
	var st syscall.Stat_t
	if err := syscall.Stat(disks[0], &st); err != nil {
		t.Fatal(err)
	}
	if written := st.Blocks * 512; written > 256<<10 { // the file's own tables
		t.Errorf("%d bytes were written to the disk of %s", written, name)
	}
}

// damagedState is the tests' state folder with one chunk of the image
// damaged. Files are linked, but for the damaged one.
func damagedState(t *testing.T) (dir, chunk string) {
	t.Helper()
	from := os.Getenv("PROVISION_TEST_STATE")
	if from == "" {
		t.Fatal("PROVISION_TEST_STATE is not set: run this by `make test`")
	}
	dir, err := os.MkdirTemp(filepath.Dir(from), "damaged") //nolint:usetesting // the same file system: links
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	for _, sub := range []string{"boot", "images"} {
		if err := linkTree(filepath.Join(from, sub), filepath.Join(dir, sub)); err != nil {
			t.Fatal(err)
		}
	}
	chunks, err := filepath.Glob(filepath.Join(dir, "images", "chunks", "*", "*.cacnk"))
	if err != nil || len(chunks) < 100 {
		t.Fatalf("%d chunks: %v", len(chunks), err)
	}
	victim := chunks[len(chunks)/2]
	raw, err := os.ReadFile(victim)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 0x55
	if err := os.Remove(victim); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(victim, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir, strings.TrimSuffix(filepath.Base(victim), ".cacnk")
}

func linkTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		if err := os.Link(path, filepath.Join(to, rel)); err != nil {
			return fmt.Errorf("link %s: %w", rel, err)
		}
		return nil
	})
}
