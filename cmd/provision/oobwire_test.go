package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/internal/netns"
	"github.com/rackstage/provision/lab/redfish"
)

// oobSite has a subnet for BMCs, and what they come with.
const oobSite = `
stages: [{name: prd}]
profiles: [{name: docker, image: debian-12}]
pools: [{name: prd, stage: prd, profile: docker}]
subnets: [{name: bmcs, cidr: 10.77.1.0/24, mode: full, oob: true, ranges: [10.77.1.100-10.77.1.120]}]
bmc_accounts:
  - {vendor: Contoso, username: root, password_file: DIR/factory}
  - {mac: "aa:bb:cc:00:00:05", username: admin, password_file: DIR/factory}
bmc_ca: [DIR/ca.pem]
rules:
  - {name: named, match: {mac: "52:54:00:77:00:02"}, pool: prd, bmc: {username: ops}}
  - {name: rest, pool: prd}
`

// theAddress is what a DHCP client runs when it has got one.
const theAddress = `#!/bin/sh
case "$1" in
bound|renew) ip address flush dev "$interface"; ip address add "$ip/$mask" dev "$interface"; echo "$ip" >"DIR/$interface.addr" ;;
esac
`

// A cabinet is a network for BMCs, with a server on it.
type cabinet struct {
	*life
	ca   bmcAuthority
	sim  string        // folder of the simulator of IPMI, which writes down its passwords
	end  chan struct{} // closed when the BMCs are to go
	gone []chan struct{}

	certs sync.Map // of BMCs by address; those that are not there have one of their own
}

// BMCs ask for an address with a real DHCP client, each with a network
// namespace of its own, and get it from the real server. It finds them by
// their leases, signs in with what they come with, makes the node of each, and
// has an account of its own there in the end. What they came with opens
// nothing any more, and nothing secret was ever written or said.
func TestBMCsThatAskForAnAddressAreTakenIn(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the server to look at its leases, 15 s: make test runs it")
	}
	if !netns.Inside(t) {
		return
	}
	c := newCabinet(t)
	bmcs := map[string]struct {
		options redfish.Options
		user    string // ours
	}{
		"1": {redfish.Options{}, "provision"},                                                                                          // takes accounts by POST
		"2": {redfish.Options{Slots: true, Expired: true, Faults: redfish.Faults{NeedsETag: true}}, "ops"},                             // fixed slots, and the password has to be changed first
		"3": {redfish.Options{Slots: true, Policy: redfish.Policy{Special: true}, Faults: redfish.Faults{NoBasic: true}}, "provision"}, // strict about passwords
		"4": {redfish.Options{Faults: redfish.Faults{NoNewAccounts: true}}, "root"},                                                    // has the one account for ever
	}
	addr := map[string]string{}
	for n, b := range bmcs {
		addr[n] = c.plug(t, n, c.redfish(n, b.options))
	}
	old := c.plug(t, "5", c.ipmi) // IPMI only: it knows the UUID of its machine, which has booted once
	for n, b := range bmcs {
		mac := "52:54:00:77:00:0" + n
		until(t, 2*time.Minute, "BMC "+n+" is ours", func(ctx context.Context) (bool, error) {
			node, err := c.client.Node(ctx, mac)
			return err == nil && node.Power != nil && node.Power.Username == b.user && len(node.Findings) == 0, nil // an error: it is not known yet
		})
		node, err := c.client.Node(t.Context(), mac)
		if err != nil || node.State != "discovered" || node.Power.Driver != "redfish" || node.Power.Address != addr[n] || node.Inventory.Serial != "C0FFEE"+n {
			t.Errorf("the node is %+v with %+v, %v", node, node.Power, err)
		}
		out, err := c.program(t.Context(), "power", "status", mac, "--server", "unix:"+filepath.Join(c.dir, "api.sock")).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "off") {
			t.Errorf("provision power status %s: %v, %s", mac, err, out)
		}
		c.said.Write(out)
		if status := c.knock(t, addr[n]); status != http.StatusUnauthorized {
			t.Errorf("BMC %s still answers to what it came with: %d", n, status)
		}
	}
	c.checkIPMI(t, old)
	c.renewCertificates(t, addr)
	alarms, err := c.client.Alarms(t.Context())
	if err != nil || slices.ContainsFunc(alarms, func(a api.Alarm) bool { return strings.HasPrefix(a.Code, "E-BMC") && a.Code != "E-BMC-PIN" }) {
		t.Errorf("alarms %+v, %v", alarms, err)
	}
	c.events(t)
	c.stop(t, syscall.SIGTERM)
	c.openSealed(t, oldNode.ID)
	c.search(t)
}

// oldNode is the machine of the BMC that speaks IPMI only.
var oldNode = fleet.Node{
	ID: "n-0000000005", MAC: "52:54:00:77:00:05", UUID: "11111111-0000-4000-8000-000000000005", State: fleet.Discovered, Revision: 1,
	BMC: fleet.BMC{CipherSuite: -1},
}

// checkIPMI looks at the BMC that speaks IPMI only. It has the account that it
// came with, under another password.
func (c *cabinet) checkIPMI(t *testing.T, addr string) {
	t.Helper()
	until(t, time.Minute, "the BMC with IPMI is ours", func(ctx context.Context) (bool, error) {
		node, err := c.client.Node(ctx, string(oldNode.ID))
		return err == nil && node.Power != nil && node.Power.Username == "admin" && node.Power.CipherSuite == 3 && !slices.ContainsFunc(node.Findings, func(f api.BMCFinding) bool {
			return f.Code == fleet.CodeBMCFactory
		}), err
	})
	if state, err := c.client.Power(t.Context(), string(oldNode.ID), api.PowerRequest{Op: "status"}); err != nil || state != "off" {
		t.Errorf("power status = %s, %v, want off", state, err)
	}
	_, err := bmc.New(bmc.Options{}).Power(t.Context(), bmc.Target{Address: addr, Username: "admin", Password: factoryWord, CipherSuite: 3})
	if !errors.Is(err, bmc.ErrLogin) {
		t.Errorf("it still answers to what it came with: %v", err)
	}
}

// renewCertificates gives two BMCs a certificate of the site's authority. One
// of them renews it, with the authority's too, which is an event; the other one
// signs the next one by itself, which is an alarm.
func (c *cabinet) renewCertificates(t *testing.T, addr map[string]string) {
	t.Helper()
	status := func(n string) error {
		_, err := c.client.Power(t.Context(), "52:54:00:77:00:0"+n, api.PowerRequest{Op: "status"})
		c.note(err)
		return err
	}
	pinned := map[string]string{}
	for range 2 {
		for _, n := range []string{"1", "3"} {
			cert, err := c.ca.sign(addr[n])
			if err != nil {
				t.Fatal(err)
			}
			c.certs.Store(addr[n], cert)
			if err := status(n); err != nil {
				t.Errorf("BMC %s has a certificate of our authority: %v", n, err)
			}
			node, err := c.client.Node(t.Context(), "52:54:00:77:00:0"+n)
			if err != nil || node.Power.Pin == pinned[n] || node.Power.Pin == "" {
				t.Errorf("BMC %s: what is kept is %+v, %v, was %s", n, node.Power, err, pinned[n])
			}
			pinned[n] = node.Power.Pin
		}
	}
	own, err := redfish.Certificate(addr["3"])
	if err != nil {
		t.Fatal(err)
	}
	c.certs.Store(addr["3"], &own)
	if p, ok := errors.AsType[*api.Problem](status("3")); !ok || p.Code != fleet.CodeBMCPin {
		t.Errorf("BMC 3 signs its certificate itself: %+v, want %s", p, fleet.CodeBMCPin)
	}
	alarms, err := c.client.Alarms(t.Context())
	if n := len(slices.DeleteFunc(alarms, func(a api.Alarm) bool { return a.Code != fleet.CodeBMCPin })); err != nil || n != 1 {
		t.Errorf("%d alarms about certificates, %v, want one", n, err)
	}
}

// newCabinet starts a server with a network for BMCs.
func newCabinet(t *testing.T) *cabinet {
	t.Helper()
	for _, args := range []string{"link add bmcs0 type bridge", "address add 10.77.1.1/24 dev bmcs0", "link set bmcs0 up"} {
		if err := netns.IP(strings.Fields(args)...); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.MkdirTemp("", "poob") //nolint:usetesting // sockets need short paths
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	c := &cabinet{life: &life{dir: dir, secrets: map[string]string{}, http: freeAddress(t), https: freeAddress(t)}, end: make(chan struct{}), ca: newBMCAuthority(t), sim: t.TempDir()}
	config := fmt.Sprintf("state_dir: %s/state\nlog_level: debug\nlisten: {dhcp: [bmcs0], http: %q, https: %q, socket: %q}\n", dir, c.http, c.https, filepath.Join(dir, "api.sock"))
	if err := os.MkdirAll(filepath.Join(dir, "state", "boot"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"site.yaml": strings.ReplaceAll(oobSite, "DIR", dir), "provision.yaml": config, "factory": factoryWord, "given": givenSecret, "ca.pem": string(c.ca.pem()),
		"address": strings.ReplaceAll(theAddress, "DIR", dir), "state/boot/vmlinuz": "x", "state/boot/initrd.img": "x",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil { //nolint:gosec // one of them is run
			t.Fatal(err)
		}
	}
	c.secret("password that BMCs come with", factoryWord)
	if err := knows(t.Context(), &labRack{dir: dir}, oldNode); err != nil {
		t.Fatal(err)
	}
	c.start(t)
	t.Cleanup(func() {
		close(c.end)
		for _, gone := range c.gone {
			<-gone
		}
	})
	return c
}

// A service makes a BMC speak at its address, and returns how that is ended.
// It runs on the thread of the BMC's namespace.
type service func(ctx context.Context, addr string) (stop func(), err error)

// plug puts a BMC on the network, and returns the address that it got.
func (c *cabinet) plug(t *testing.T, n string, serve service) string {
	t.Helper()
	port, card := "port"+n, "card"+n
	for _, args := range []string{
		"link add " + port + " type veth peer name " + card + " address aa:bb:cc:00:00:0" + n,
		"link set " + port + " master bmcs0 up",
	} {
		if err := netns.IP(strings.Fields(args)...); err != nil {
			t.Fatal(err)
		}
	}
	up, gone := make(chan error, 1), make(chan struct{})
	c.gone = append(c.gone, gone)
	ctx := context.WithoutCancel(t.Context()) // until stop
	go func() {
		defer close(gone)
		netns.Elsewhere(t, card, func() error {
			stop, err := c.live(ctx, card, serve)
			if up <- err; err == nil {
				<-c.end
				stop()
			}
			return nil
		})
	}()
	if err := <-up; err != nil {
		t.Fatalf("BMC %s: %v", n, err)
	}
	return c.addressOf(card)
}

func (c *cabinet) addressOf(card string) string {
	text, _ := os.ReadFile(filepath.Join(c.dir, card+".addr")) // "" when there is none
	return strings.TrimSpace(string(text))
}

// live is a BMC from when it gets power.
func (c *cabinet) live(ctx context.Context, card string, serve service) (stop func(), err error) {
	for _, link := range []string{"lo", card} {
		if err := netns.IP("link", "set", link, "up"); err != nil {
			return nil, err
		}
	}
	asks := exec.CommandContext(ctx, "busybox", "udhcpc", "-i", card, "-n", "-q", "-f", "-t", "10", "-T", "1", "-s", filepath.Join(c.dir, "address"))
	if out, err := asks.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("it got no address: %w\n%s", err, out)
	}
	return serve(ctx, c.addressOf(card))
}

// redfish is a BMC that speaks Redfish. All that it hears is noted.
func (c *cabinet) redfish(n string, o redfish.Options) service {
	o.Username, o.Password = "root", factoryWord
	o.Systems = []redfish.System{{Facts: redfish.Facts{
		UUID: "11111111-0000-4000-8000-00000000000" + n, Serial: "C0FFEE" + n, Vendor: "Contoso", Model: "R1",
		NICs: []redfish.NIC{{ID: "NIC.1", MAC: "52:54:00:77:00:0" + n, Link: true}},
	}}}
	return func(ctx context.Context, addr string) (stop func(), err error) {
		own, err := redfish.Certificate(addr)
		if err != nil {
			return nil, err
		}
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(addr, "443"))
		if err != nil {
			return nil, err
		}
		service := redfish.New(o)
		srv := httptest.NewUnstartedServer(c.hears(func() *redfish.Service { return service }))
		_ = srv.Listener.Close() // it has one already
		srv.Listener = l
		srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
		srv.TLS = &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			cert := &own
			if renewed, ok := c.certs.Load(addr); ok {
				cert, _ = renewed.(*tls.Certificate)
			}
			return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*cert}}, nil
		}}
		srv.StartTLS()
		return func() { srv.Close(); service.Close() }, nil
	}
}

// ipmi is a BMC that speaks IPMI only: OpenIPMI's simulator.
func (c *cabinet) ipmi(ctx context.Context, addr string) (stop func(), err error) {
	dir := c.sim
	hook, err := filepath.Abs("../../bmc/testdata/hook.sh")
	if err != nil {
		return nil, err
	}
	conf, err := os.ReadFile("../../bmc/testdata/lan.conf")
	if err != nil {
		return nil, err
	}
	fill := strings.NewReplacer("127.0.0.1 @PORT@", addr+" 623", "@HOOK@", hook, "@DIR@", dir, "@PASSWORD@", factoryWord, "@LINE@", "",
		"00000000000000000000000000000001", strings.ReplaceAll(oldNode.UUID, "-", ""))
	for name, text := range map[string]string{"lan.conf": fill.Replace(string(conf)), "power": "0", "boot": "none", "fault": "none"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	cmd := exec.CommandContext(ctx, "ipmi_sim", "-n", "-c", filepath.Join(dir, "lan.conf"), "-f", "../../bmc/testdata/commands.emu", "-s", filepath.Join(dir, "state"))
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "state"), 0o700), cmd.Start()); err != nil {
		return nil, err
	}
	return func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }, nil
}

// knock tries what a BMC came with, and returns what it says.
func (c *cabinet) knock(t *testing.T, addr string) int {
	t.Helper()
	for _, basic := range []bool{true, false} {
		method, path, body := http.MethodGet, "/redfish/v1/Systems", ""
		if !basic {
			method, path, body = http.MethodPost, "/redfish/v1/SessionService/Sessions", `{"UserName": "root", "Password": "`+factoryWord+`"}`
		}
		r, err := http.NewRequestWithContext(t.Context(), method, "https://"+addr+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if basic {
			r.SetBasicAuth("root", factoryWord)
		}
		answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}).Do(r) //nolint:gosec // whoever it is
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusUnauthorized {
			return answer.StatusCode
		}
	}
	return http.StatusUnauthorized
}
