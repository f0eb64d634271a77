package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/bmc/bmctest"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab/redfish"
	"github.com/rackstage/provision/pxe"
)

const vendorSite = `
stages: [{name: prd}]
profiles: [{name: docker, image: debian-12}]
pools: [{name: prd, stage: prd, profile: docker}]
rules:
`

// vendors are the drivers that other programs' code is behind. The passwords have
// in them what JSON, pages and forms write otherwise; the words at their
// beginning are looked for too.
var vendors = map[string]struct {
	mac, password, rule string
}{
	"dell":       {"52:54:05:00:00:01", `DellDell5Dell"&<5`, "https_port: PORT, ipmi_port: NONE"},
	"supermicro": {"52:54:05:00:00:02", `SuprSupr6Supr"&<6`, "https_port: PORT, ipmi_port: NONE"},
	"openbmc":    {"52:54:05:00:00:03", `OpenOpen7Open"&<7`, "https_port: PORT, ipmi_port: NONE"},
	"asrockrack": {"52:54:05:00:00:04", `AsrkAsrk8Asrk"<8`, "https_port: PORT, ipmi_port: NONE"}, // its driver puts it into a form as it is
	"amt":        {"52:54:05:00:00:05", `AmtAmtAmt9Amt"&<9`, "address: '127.0.0.1:PORT'"},
	"pdu":        {"52:54:05:00:00:06", `SnmpSnmp1Snmp`, "address: '127.0.0.1:PORT', pdu: {model: apc-rpdu2, outlets: [1, 3]}"},
}

const strangerWord = "Stranger8Stranger8"

// A vendorLife is one with a BMC for each of these drivers.
type vendorLife struct {
	*life
	services map[string]*redfish.Service // by driver
	before   map[string]*redfish.Service // those that knew our passwords
	asrock   *asrock
	amt      *amt
}

// The drivers that bmclib, an AMT library and an SNMP library are behind do their
// work, and fail, while bmclib is told to show all that it says. What any of
// their BMCs was told shows up nowhere, although the BMCs repeat what they refuse.
func TestNoSecretOfAVendorsDriverIsEverWrittenOrSaid(t *testing.T) {
	if testing.Short() {
		t.Skip("a day takes 15 s: make test runs it")
	}
	t.Setenv("DEBUG_BMCLIB", "true")
	v := startVendorLife(t)
	v.bootAll(t)
	v.work(t)
	v.mistrust(t)
	v.converge(t)
	v.forgive(t, "dell")
	v.ask(t, "/api/v1/nodes/:ref/console/records/:record")
	v.askBoot(t)
	v.end(t, syscall.SIGTERM)
	v.openSealed(t)
	v.search(t)
}

func startVendorLife(t *testing.T) *vendorLife {
	t.Helper()
	l := &life{secrets: map[string]string{}, given: map[string]string{}}
	v := &vendorLife{life: l, services: map[string]*redfish.Service{}, asrock: &asrock{l: l}, amt: &amt{l: l}}
	v.pdu = bmctest.StartPDU(t, bmctest.PDUOptions{Model: "apc-rpdu2", Community: communityWord, Password: vendors["pdu"].password, On: []int{1, 3}})
	files := map[string]string{"given": givenSecret, "disk.raw": strings.Repeat("disk", 16<<10)}
	site := vendorSite
	for driver, it := range vendors {
		files[driver] = it.password + "\n"
		l.secret("password of driver "+driver, it.password)
		l.secret("beginning of the password of driver "+driver, regexp.MustCompile(`^\w+`).FindString(it.password))
		user := "admin"
		if driver == "pdu" {
			user = bmctest.PDUUser
		}
		more := strings.NewReplacer("PORT", v.listen(t, driver), "NONE", bmctest.FreePort(t)).Replace(it.rule)
		site += fmt.Sprintf("  - {name: %s, match: {mac: %q}, pool: prd, approve: true, bmc: {driver: %s, username: %s, password_file: DIR/%s, address: 127.0.0.1, %s}}\n",
			driver, it.mac, driver, user, driver, more)
	}
	site = strings.ReplaceAll(site, "address: 127.0.0.1, address:", "address:")
	l.ownServer = newServer(t, site, "bmc: {interval: 10ms}\n", files)
	l.run(t, "images", "import", filepath.Join(l.dir, "disk.raw"), "--name", "debian-12", "--state-dir", filepath.Join(l.dir, "state"))
	l.start(t)
	return v
}

// listen starts the BMC for a driver.
func (v *vendorLife) listen(t *testing.T, driver string) (port string) {
	t.Helper()
	v.know(t, driver, vendors[driver].password)
	switch driver {
	case "pdu":
		return v.pdu.Port()
	case "amt":
		return v.serve(t, v.amt, false)
	case "asrockrack":
		return v.serve(t, v.asrock, true)
	}
	speaks := v.hears(func() *redfish.Service {
		v.mu.Lock()
		defer v.mu.Unlock()
		return v.services[driver]
	})
	return v.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if driver == "openbmc" && r.URL.Path == "/" {
			fmt.Fprint(w, "<title>OpenBMC</title>") // by which its driver knows it
			return
		}
		speaks.ServeHTTP(w, r)
	}), true)
}

// know has the BMC for a driver take a password, and no other one.
func (v *vendorLife) know(t *testing.T, driver, password string) {
	t.Helper()
	switch driver {
	case "pdu":
		if password != vendors[driver].password {
			v.pdu.End()
			v.pdu.Begin(t, communityWord, password)
		}
	case "amt":
		v.amt.password.Store(password)
	case "asrockrack":
		v.asrock.password.Store(password)
		v.asrock.on.Store(true)
	default:
		machine := &redfish.Memory{}
		if err := machine.Do(t.Context(), redfish.PowerOn); err != nil {
			t.Fatal(err)
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		v.services[driver] = redfish.New(redfish.Options{Username: "admin", Password: password, Systems: []redfish.System{{
			ID: "System.Embedded.1", Machine: machine, Facts: redfish.Facts{Vendor: "Dell Inc."},
		}}})
	}
}

// bootAll has the machine of each boot, and waits until the nodes have their BMCs.
func (v *vendorLife) bootAll(t *testing.T) {
	t.Helper()
	for driver, it := range vendors {
		m := v.boot(t, it.mac, "C0FFEE-"+driver)
		v.secret("boot ticket", m.ticket)
		v.given[driver] = m.id
	}
	for driver, node := range v.given {
		until(t, time.Minute, "the node has its BMC", func(ctx context.Context) (bool, error) {
			n, err := v.client.Node(ctx, node)
			return n.Power != nil && n.Power.Driver == driver, err
		})
	}
}

// all does something with each of the nodes at the same time, and keeps what is
// said of it.
func (v *vendorLife) all(t *testing.T, do func(driver, node string) error) {
	t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	for driver, node := range v.given {
		wg.Go(func() {
			err := do(driver, node)
			mu.Lock()
			defer mu.Unlock()
			v.note(err)
		})
	}
	wg.Wait()
}

// work has each driver sign in, switch its machine where it can, and do what it
// cannot.
func (v *vendorLife) work(t *testing.T) {
	t.Helper()
	v.all(t, func(driver, node string) error {
		if _, err := v.client.ProbeBMC(t.Context(), node, api.ProbeBMCRequest{}); err != nil {
			t.Errorf("probe by %s: %v", driver, err)
			return err
		}
		if driver != "amt" {
			for _, op := range []string{"off", "on"} {
				if state, err := v.client.Power(t.Context(), node, api.PowerRequest{Op: op}); err != nil || state != op {
					t.Errorf("power %s by %s: %s, %v", op, driver, state, err)
				}
			}
		}
		state, err := v.client.Power(t.Context(), node, api.PowerRequest{Op: "status"})
		if err != nil || state != "on" {
			t.Errorf("power status by %s: %s, %v", driver, state, err)
		}
		_, err = v.client.Examine(t.Context(), node) // not all can
		return err
	})
	v.all(t, func(driver, node string) error {
		_, err := v.client.RotateBMC(t.Context(), node)
		if redfishToo := v.services[driver] != nil; redfishToo != (err == nil) {
			t.Errorf("a new password by %s: %v", driver, err)
		}
		return err
	})
	v.all(t, func(_, node string) error {
		_, err := v.client.CheckBMC(t.Context(), node, api.CheckBMCRequest{})
		if err == nil {
			_, err = v.client.BMCCheck(t.Context(), node, 2*time.Second)
		}
		return err
	})
}

// mistrust has all BMCs take another password than ours.
func (v *vendorLife) mistrust(t *testing.T) {
	t.Helper()
	v.secret("password of somebody else", strangerWord)
	v.before = maps.Clone(v.services)
	for driver := range vendors {
		v.know(t, driver, strangerWord)
	}
	v.all(t, func(driver, node string) error {
		_, err := v.client.ProbeBMC(t.Context(), node, api.ProbeBMCRequest{})
		if code := codeOf(err); code != fleet.CodeBMCLogin {
			t.Errorf("probe by %s of a BMC that takes another password: %v, want %s", driver, err, fleet.CodeBMCLogin)
		}
		return err
	})
	v.all(t, func(_, node string) error {
		for _, args := range [][]string{{"power", "status", node}, {"power", "off", node, "--yes"}, {"bmc", "probe", node}, {"nodes", "show", node, "-o", "json"}, {"bmc", "show", node}} {
			out, _ := v.command(t.Context(), args...).CombinedOutput() // most fail
			v.mu.Lock()
			v.said.Write(out)
			v.mu.Unlock()
		}
		return nil
	})
}

// forgive has the BMC for a driver be what it was before it took another password.
func (v *vendorLife) forgive(t *testing.T, driver string) {
	t.Helper()
	v.mu.Lock()
	v.services[driver] = v.before[driver]
	v.mu.Unlock()
	until(t, time.Minute, "the BMC is signed in to again", func(ctx context.Context) (bool, error) {
		_, err := v.client.ProbeBMC(ctx, v.given[driver], api.ProbeBMCRequest{})
		v.note(err)
		return err == nil, err
	})
}

// converge begins a run, which gets no further than to BMCs that refuse us.
func (v *vendorLife) converge(t *testing.T) {
	t.Helper()
	plan, err := v.client.Plan(t.Context(), "prd")
	if err != nil {
		t.Fatal(err)
	}
	run, err := v.client.Start(t.Context(), "prd", api.StartRun{Plan: plan.Hash, Destructive: true})
	if err != nil {
		t.Fatal(err)
	}
	until(t, time.Minute, "the run has spoken to a BMC in vain", func(ctx context.Context) (bool, error) {
		r, err := v.client.Run(ctx, run.ID)
		for _, n := range r.Nodes {
			if n.Failure != nil && strings.HasPrefix(n.Failure.Code, "E-BMC-") {
				return true, err
			}
		}
		return false, err
	})
}

// askBoot reads what machines are given at the boot listener. Tickets are for
// them.
func (v *vendorLife) askBoot(t *testing.T) {
	t.Helper()
	client := v.web(nil)
	for _, it := range vendors {
		for _, path := range []string{pxe.PathScript + "?mac=" + it.mac + "&platform=efi&arch=x86_64", pxe.PathGRUB + "x86_64/" + it.mac + ".cfg", pxe.PathFiles + "autoexec.ipxe", pxe.PathFiles + "grub.cfg"} {
			script := v.get(t, client, "http://"+v.http+path)
			if !strings.Contains(script, "\n") {
				t.Errorf("%s is %q", path, script)
			}
			v.said.WriteString(ticketShape.ReplaceAllString(script, ""))
		}
	}
	if b, err := os.ReadFile(filepath.Join(v.dir, "serve.log")); err != nil || !strings.Contains(string(b), "level=DEBUG") {
		t.Errorf("the log is not one that tells all: %v", err)
	}
}
