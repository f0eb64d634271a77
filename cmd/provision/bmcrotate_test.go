package main

import (
	"cmp"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/bmc/bmctest"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab/redfish"
)

const rotateSite = `
stages: [{name: prd}]
profiles: [{name: docker, image: debian-12}]
pools: [{name: prd, stage: prd, profile: docker}]
rules:
  - {name: ipmi, match: {mac: "52:54:06:00:00:01"}, pool: prd, approve: true, bmc: {driver: ipmi, cipher_suite: 3, username: admin, password_file: DIR/given, address: 127.0.0.1, ipmi_port: IPMI}}
  - {name: willing, match: {mac: "52:54:06:00:00:02"}, pool: prd, approve: true, bmc: {driver: redfish, username: admin, password_file: DIR/given, address: 127.0.0.1, https_port: WILLING, ipmi_port: NONE}}
  - {name: stuck, match: {mac: "52:54:06:00:00:03"}, pool: prd, approve: true, bmc: {driver: redfish, username: admin, password_file: DIR/given, address: 127.0.0.1, https_port: STUCK, ipmi_port: NONE}}
`

// A rotation is a server with three BMCs, of which one takes no new password.
type rotation struct {
	*life
	bmcs  map[string]bmc.Target // by name, without the password
	nodes map[string]string
}

// provision bmc rotate gives real BMCs new passwords, by IPMI and by Redfish. The
// old ones open nothing any more, the new ones do, over a restart too; they are
// sealed on disk and seen nowhere. A BMC that takes none is named, and keeps the
// one that it has.
func TestRotateGivesBMCsNewPasswords(t *testing.T) {
	if testing.Short() {
		t.Skip("a server, and BMCs that take their time to refuse a login, 10 s: make test runs it")
	}
	r := newRotation(t)
	for name := range r.bmcs {
		if err := r.signIn(t, name, givenSecret); err != nil {
			t.Fatalf("BMC %s does not take the password that it has: %v", name, err)
		}
	}
	r.rotateNone(t)
	r.rotateAll(t)
	r.rotateOne(t)
	r.end(t, syscall.SIGKILL)
	r.start(t)
	if out, code := r.provision(t, "power", "status", "pool:prd"); code != exitOK || strings.Count(out, " off\n") != len(r.nodes) {
		t.Errorf("power status after a restart ends with %d:\n%s", code, out)
	}
	r.events(t)
	if got := strings.Count(r.said.String(), "password of BMC user admin changed, proven by signing in"); got != 3 {
		t.Errorf("%d events are about changed passwords, want 3", got)
	}
	r.end(t, syscall.SIGTERM)
	for name, password := range r.passwords(t) {
		if err := r.signIn(t, name, password); err != nil {
			t.Errorf("BMC %s does not take the password that is kept: %v", name, err)
		}
		r.secret("password that was made for BMC "+name, string(password))
		if name == "stuck" {
			if password != givenSecret {
				t.Error("the password of a BMC that took no other one was not kept")
			}
			continue
		}
		if err := r.signIn(t, name, givenSecret); !errors.Is(err, bmc.ErrLogin) {
			t.Errorf("BMC %s and its old password: %v, want %v", name, err, bmc.ErrLogin)
		}
	}
	r.search(t)
}

func newRotation(t *testing.T) *rotation {
	t.Helper()
	l := &life{secrets: map[string]string{}}
	l.sim = bmctest.StartIPMI(t, bmctest.IPMIOptions{Password: givenSecret})
	ports := map[string]string{"IPMI": l.sim.Port(), "NONE": bmctest.FreePort(t)}
	r := &rotation{life: l, nodes: map[string]string{}, bmcs: map[string]bmc.Target{"ipmi": l.sim.Target()}}
	for name, faults := range map[string]redfish.Faults{"willing": {}, "stuck": {NoPatch: true}} {
		service := redfish.New(redfish.Options{Username: "admin", Password: givenSecret, Faults: faults})
		t.Cleanup(service.Close)
		port := l.serve(t, l.hears(func() *redfish.Service { return service }), true)
		ports[strings.ToUpper(name)] = port
		r.bmcs[name] = bmc.Target{Driver: fleet.DriverRedfish, Address: "127.0.0.1:" + port, Username: "admin"}
	}
	site := rotateSite
	for name, port := range ports {
		site = strings.ReplaceAll(site, "_port: "+name, "_port: "+port)
	}
	l.ownServer = newServer(t, site, "bmc: {interval: 10ms}\n", map[string]string{"given": givenSecret + "\n"})
	l.secret("password of a rule", givenSecret)
	l.start(t)
	for name, mac := range map[string]string{"ipmi": "52:54:06:00:00:01", "willing": "52:54:06:00:00:02", "stuck": "52:54:06:00:00:03"} {
		m := l.meet(t, mac, "C0FFEE-"+name, string(cmp.Or(r.bmcs[name].Driver, fleet.DriverIPMI)))
		l.secret("boot ticket", m.ticket)
		r.nodes[name] = m.id
	}
	return r
}

// signIn asks a BMC with a password, as somebody who has never spoken to it.
func (r *rotation) signIn(t *testing.T, name string, password bmc.Password) error {
	t.Helper()
	target := r.bmcs[name]
	target.Password = password
	_, err := bmc.New(bmc.Options{}).Probe(t.Context(), target)
	return err
}

// provision runs a command, and keeps what it says.
func (r *rotation) provision(t *testing.T, args ...string) (out string, code int) {
	t.Helper()
	cmd := r.command(t.Context(), args...)
	said, err := cmd.CombinedOutput()
	if _, failed := errors.AsType[*exec.ExitError](err); err != nil && !failed {
		t.Fatal(err)
	}
	r.said.Write(said)
	return string(said), cmd.ProcessState.ExitCode()
}

// rotateNone changes nothing: nobody has said yes, and there is no such node.
func (r *rotation) rotateNone(t *testing.T) {
	t.Helper()
	if out, code := r.provision(t, "bmc", "rotate", "pool:prd"); code != exitUnapproved {
		t.Errorf("without a yes it ends with %d, want %d:\n%s", code, exitUnapproved, out)
	}
	if out, code := r.provision(t, "bmc", "rotate", "nobody", "--yes"); code != exitUsage || !strings.Contains(out, "nobody") {
		t.Errorf("with a node that is not there it ends with %d, want %d:\n%s", code, exitUsage, out)
	}
}

// rotateAll gives all of them new passwords; one takes none.
func (r *rotation) rotateAll(t *testing.T) {
	t.Helper()
	out, code := r.provision(t, "bmc", "rotate", "pool:prd", "--yes")
	if code != exitFailed || !strings.Contains(out, "new BMC passwords failed for 1 of 3 nodes") {
		t.Errorf("it ends with %d, want %d:\n%s", code, exitFailed, out)
	}
	for name, want := range map[string]string{"ipmi": "rotated", "willing": "rotated", "stuck": "failed E-BMC-"} {
		n, err := r.client.Node(t.Context(), r.nodes[name])
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(strings.Split(out, "\n"), func(line string) bool {
			return strings.HasPrefix(strings.Join(strings.Fields(line), " "), nodeTitle(n)+" "+want)
		}) {
			t.Errorf("BMC %s has no line that says %s:\n%s", name, want, out)
		}
	}
}

// rotateOne asks for one at a time: who fails says why.
func (r *rotation) rotateOne(t *testing.T) {
	t.Helper()
	if out, code := r.provision(t, "bmc", "rotate", r.nodes["ipmi"], "--yes", "-o", "json"); code != exitOK || !strings.Contains(out, `"state": "rotated"`) {
		t.Errorf("once more it ends with %d:\n%s", code, out)
	}
	out, code := r.provision(t, "bmc", "rotate", r.nodes["stuck"], "--yes")
	if code == exitOK || !strings.Contains(out, "error: ") || !strings.Contains(out, "hint: ") {
		t.Errorf("alone, the BMC that takes none ends with %d:\n%s", code, out)
	}
	if out, code := r.provision(t, "power", "status", r.nodes["stuck"]); code != exitOK {
		t.Errorf("its power status ends with %d:\n%s", code, out)
	}
}

// passwords are those that a server which has ended keeps, by name.
func (r *rotation) passwords(t *testing.T) map[string]bmc.Password {
	t.Helper()
	sealer, nodes := r.stored(t)
	all := map[string]bmc.Password{}
	for _, n := range nodes {
		password, err := openBMC(sealer, n)
		if err != nil || n.BMC.Next != (fleet.BMCAccount{}) {
			t.Errorf("the password of node %s: %v; a second one: %t", n.ID, err, n.BMC.Next != (fleet.BMCAccount{}))
		}
		for name, node := range r.nodes {
			if node == string(n.ID) {
				all[name] = password
			}
		}
	}
	if len(all) != len(r.nodes) {
		t.Errorf("%d passwords are kept, want %d", len(all), len(r.nodes))
	}
	return all
}
