package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/bmc/bmctest"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab/redfish"
)

const (
	lifeMAC       = "52:54:00:00:00:01"
	lifePassword  = "Person4Person4Person4"
	givenSecret   = "Given1Given1Gvn1"
	factoryWord   = "Factory2Factory2"
	wrongWord     = "Wrong3Wrong3Wro3"
	communityWord = "Community5Commu5"
)

const lifeSite = `
stages: [{name: prd}]
profiles: [{name: docker, image: debian-12}]
pools:
  - {name: prd, stage: prd, profile: docker}
  - {name: rec, stage: prd, profile: docker, console: record}
bmc_accounts: [{username: root, password_file: DIR/factory}]
rules:
  - {name: ours, match: {mac: "52:54:00"}, pool: prd, approve: true, bmc: {driver: redfish, address: 127.0.0.1, https_port: HTTPS, ipmi_port: NONE}}
  - {name: given, match: {mac: "52:54:01"}, pool: rec, approve: true, bmc: {driver: ipmi, cipher_suite: 3, username: admin, password_file: DIR/given, address: 127.0.0.1, ipmi_port: IPMI}}
  - {name: tool, match: {mac: "52:54:02"}, pool: prd, approve: true, bmc: {driver: ipmitool, cipher_suite: 3, username: admin, password_file: DIR/given, address: 127.0.0.1, ipmi_port: IPMI}}
  - {name: outlets, match: {mac: "52:54:03"}, pool: prd, approve: true, bmc: {driver: pdu, password_file: DIR/community, address: "127.0.0.1:SNMP", pdu: {model: apc, outlets: [1]}}}
  - {name: blade, match: {mac: "52:54:04"}, pool: prd, approve: true, bmc: {driver: redfish, username: admin, password_file: DIR/given, address: 127.0.0.1, https_port: BLADE, ipmi_port: NONE}}
`

// A life is one server's, and what is known of it from outside.
type life struct {
	*ownServer
	bmc     *redfish.Service
	node    string
	relay   *http.Client // of a relay
	ssh     *bmctest.SSH // of that BMC
	sim     *bmctest.IPMI
	serial  *bmctest.SerialPort // of the machine that it is in
	pdu     *bmctest.PDU
	blade   *redfish.Service  // nil: it is without current
	machine redfish.Memory    // that it is in
	given   map[string]string // nodes whose rules give a password, by driver
	said    bytes.Buffer      // answers of the API, and its events
	secrets map[string]string

	mu sync.Mutex // for the BMC's requests
}

// secret notes something that nobody shall ever see.
func (l *life) secret(what, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if text != "" && l.secrets[text] == "" { // the first word for it says most
		l.secrets[text] = what
	}
}

// knows reports whether something is such a secret.
func (l *life) knows(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.secrets[text] != ""
}

func startLife(t *testing.T) *life {
	t.Helper()
	l := &life{secrets: map[string]string{}, given: map[string]string{}, serial: bmctest.OpenSerialPort(t)}
	l.sim = bmctest.StartIPMI(t, bmctest.IPMIOptions{Password: givenSecret, On: true, Serial: l.serial})
	l.pdu = bmctest.StartPDU(t, bmctest.PDUOptions{Model: "apc", Community: communityWord, On: []int{1}})
	l.ssh = bmctest.StartSSH(t, bmctest.SSHOptions{Right: func(_, password string) bool { return l.knows(password) }})
	l.bmc = redfish.New(redfish.Options{Username: "nobody", Password: rand.Text()[:16]})
	l.serveBlade(givenSecret)
	site := strings.NewReplacer("HTTPS", l.startBMC(t, &l.bmc), "BLADE", l.startBMC(t, &l.blade), "IPMI", l.sim.Port(), "SNMP", l.pdu.Port(), "NONE", bmctest.FreePort(t)).Replace(lifeSite)
	l.ownServer = newServer(t, site, "bmc: {interval: 10ms}\n", map[string]string{
		"factory": factoryWord, "given": givenSecret + "\n", "community": communityWord + "\n", "person": lifePassword + "\n",
	})
	l.wrapTool(t)
	for what, text := range map[string]string{
		"password of a rule": givenSecret, "password that BMCs come with": factoryWord, "password of a person": lifePassword, "community of a PDU": communityWord,
	} {
		l.secret(what, text)
	}
	l.addUser(t, "ada", "admin", "person")
	l.start(t)
	return l
}

// end stops the server, and keeps what its process showed to others.
func (l *life) end(t *testing.T, sig syscall.Signal) {
	t.Helper()
	for _, file := range []string{"cmdline", "environ"} {
		b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(l.cmd.Process.Pid), file))
		if err != nil {
			t.Fatal(err)
		}
		l.said.Write(b)
	}
	l.stop(t, sig)
}

// signIn signs a person in, and somebody with a wrong password.
func (l *life) signIn(t *testing.T) {
	t.Helper()
	for _, password := range []string{wrongWord, lifePassword} {
		form := url.Values{"user": {"ada"}, "password": {password}}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+l.https+"/login", strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Origin", "https://"+l.https)
		resp, err := l.web(nil).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		page, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		l.said.Write(page)
		if cookies := resp.Cookies(); password == lifePassword {
			if len(cookies) == 0 {
				t.Fatalf("signed in with %d and no cookie", resp.StatusCode)
			}
			l.secret("session of a person", cookies[0].Value)
		}
	}
	l.secret("password that is wrong", wrongWord)
}

// addRelay has a relay enrol.
func (l *life) addRelay(t *testing.T) {
	t.Helper()
	r, err := l.client.AddRelay(t.Context(), api.AddRelay{Name: "edge-1"})
	if err != nil {
		t.Fatal(err)
	}
	secret, _, _ := strings.Cut(r.Token, ".") // what follows is the fingerprint of our authority
	l.secret("token of a relay", secret)
	key, request := newRequest(t)
	var enrolled api.RelayEnrolReply
	l.post(t, l.web(nil), api.PathRelayEnrol, api.RelayEnrolRequest{Token: secret, CSR: request}, &enrolled)
	l.relay = l.web(certified(enrolled.Certificate, key))
}

// readRelay reads what a relay is to know while the server is away.
func (l *life) readRelay(t *testing.T) {
	t.Helper()
	snapshot := l.get(t, l.relay, "https://"+l.https+api.PathRelaySnapshot)
	if !strings.Contains(snapshot, `"edge-1"`) {
		t.Errorf("what the relay got is %s", snapshot)
	}
	l.said.WriteString(snapshot)
}

// enrol is a machine that boots: script, hello, the account for its BMC.
func (l *life) enrol(t *testing.T) {
	t.Helper()
	m := l.boot(t, lifeMAC, "C0FFEE")
	l.secret("boot ticket", m.ticket)
	l.node = m.id
	agent := m.agent
	step := l.poll(t, agent, nil)
	if step == nil || step.BMC == nil {
		t.Fatalf("the agent got %+v, want an order for an account", step)
	}
	l.secret("password that was made", step.BMC.Password)
	l.become(step.BMC.Username, step.BMC.Password)
	l.poll(t, agent, &api.StepReport{StepID: step.ID, State: "done", BMC: &api.BMCReport{Slot: 5, Channel: 1, Address: "127.0.0.1", Source: "dhcp"}})
	until(t, 20*time.Second, "the account is ours", func(ctx context.Context) (bool, error) {
		n, err := l.client.Node(ctx, l.node)
		return n.Power != nil && n.Power.Username == "provision" && n.Power.Driver == "redfish", err
	})
}

func (l *life) poll(t *testing.T, agent *http.Client, report *api.StepReport) *api.Step {
	t.Helper()
	var reply api.PollReply
	l.post(t, agent, api.PathPoll, api.PollRequest{BootID: "boot-1", Report: report, Wait: 5}, &reply)
	return reply.Step
}

// fail has the BMC misbehave in several ways, and keeps what is said of it.
func (l *life) fail(t *testing.T) {
	t.Helper()
	for name, f := range map[string]redfish.Faults{
		"refuses": {Error: true}, "takes no passwords": {NoPatch: true}, "has no sessions left": {Sessions: 1}, "is broken": {Garbage: redfish.Types}, "shows a page": {Garbage: redfish.HTML},
	} {
		l.faults(f)
		_, err := l.client.RotateBMC(t.Context(), l.node)
		l.note(err)
		state, err := l.client.Power(t.Context(), l.node, api.PowerRequest{Op: "status", Reason: name})
		l.note(err)
		fmt.Fprintln(&l.said, state)
	}
	l.faults(redfish.Faults{})
	l.expire(t)
}

// expire has the password get too old: that has a name, and the next rotation
// ends it.
func (l *life) expire(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	l.bmc.Expire("provision")
	l.mu.Unlock()
	_, err := l.client.Power(t.Context(), l.node, api.PowerRequest{Op: "status"})
	l.note(err)
	if p, ok := errors.AsType[*api.Problem](err); !ok || p.Code != fleet.CodeBMCMustChange {
		t.Errorf("with a password that has to be changed: %v, want %s", err, fleet.CodeBMCMustChange)
	}
}

func (l *life) note(err error) {
	if err != nil {
		fmt.Fprintf(&l.said, "%v %+v %#v\n", err, err, err)
	}
}

func (l *life) rotate(t *testing.T) {
	t.Helper()
	if _, err := l.client.RotateBMC(t.Context(), l.node); err != nil {
		t.Fatalf("rotate the password: %v", err)
	}
	if _, err := l.client.Power(t.Context(), l.node, api.PowerRequest{Op: "status"}); err != nil {
		t.Fatalf("sign in with the new password: %v", err)
	}
	if s, err := l.client.RotateSecrets(t.Context(), api.RotateSecrets{}); err != nil || s.Failed != "" || s.Sealed < 4 {
		t.Fatalf("rotate the sealing key: %+v, %v", s, err)
	}
}
