package main

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
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
  - {name: given, match: {mac: "52:54:00:77:00:01"}, pool: prd, approve: true, bmc: {username: rack, password_file: DIR/given}}
  - {name: named, match: {mac: "52:54:00:77:00:02"}, pool: prd, bmc: {username: ops}}
  - {name: rest, pool: prd}
`

// BMCs ask for an address with a real DHCP client, each with a network
// namespace of its own, and get it from the real server. It finds them by
// their leases, signs in with what they come with, makes the node of each, and
// has an account of its own there in the end, whatever a rule gives. What they came with opens
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
		state   fleet.State
	}{
		"1": {redfish.Options{}, "provision", fleet.Ready},                                                                                               // takes accounts by POST
		"2": {redfish.Options{Slots: true, Expired: true, Faults: redfish.Faults{NeedsETag: true}}, "ops", fleet.Discovered},                             // fixed slots, and the password has to be changed first
		"3": {redfish.Options{Slots: true, Policy: redfish.Policy{Special: true}, Faults: redfish.Faults{NoBasic: true}}, "provision", fleet.Discovered}, // strict about passwords
		"4": {redfish.Options{Faults: redfish.Faults{NoNewAccounts: true}}, "root", fleet.Discovered},                                                    // has the one account for ever
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
		if err != nil || node.State != string(b.state) || node.Power.Driver != "redfish" || node.Power.Address != addr[n] || node.Inventory.Serial != "C0FFEE"+n {
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
	c.end(t, syscall.SIGTERM)
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
