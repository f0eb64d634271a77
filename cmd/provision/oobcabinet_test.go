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
	"strings"
	"sync"
	"testing"

	"github.com/rackstage/provision/bmc/bmctest"
	"github.com/rackstage/provision/internal/netns"
	"github.com/rackstage/provision/lab/redfish"
)

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
	sim  string        // folder of the simulator of IPMI
	over chan struct{} // closed when the BMCs are to go
	gone []chan struct{}

	certs sync.Map // of BMCs by address; those that are not there have one of their own
}

// newCabinet starts a server with a network for BMCs.
func newCabinet(t *testing.T) *cabinet {
	t.Helper()
	for _, args := range []string{"link add bmcs0 type bridge", "address add 10.77.1.1/24 dev bmcs0", "link set bmcs0 up"} {
		if err := netns.IP(strings.Fields(args)...); err != nil {
			t.Fatal(err)
		}
	}
	ca := newBMCAuthority(t)
	c := &cabinet{life: &life{secrets: map[string]string{}}, over: make(chan struct{}), ca: ca, sim: t.TempDir()}
	c.ownServer = newServer(t, oobSite, "", map[string]string{
		"factory": factoryWord, "given": givenSecret, "ca.pem": string(ca.pem()), "address": "",
	})
	listen := fmt.Sprintf("state_dir: %s/state\nlog_level: debug\nlisten: {dhcp: [bmcs0], http: %q, https: %q, socket: %q}\n", c.dir, c.http, c.https, filepath.Join(c.dir, "api.sock"))
	script := filepath.Join(c.dir, "address")
	err := errors.Join(
		os.WriteFile(filepath.Join(c.dir, "provision.yaml"), []byte(listen), 0o600),
		os.WriteFile(script, []byte(strings.ReplaceAll(theAddress, "DIR", c.dir)), 0o600),
		os.Chmod(script, 0o700), //nolint:gosec // it is run
	)
	if err != nil {
		t.Fatal(err)
	}
	c.secret("password that BMCs come with", factoryWord)
	if err := knows(t.Context(), &labRack{dir: c.dir}, oldNode); err != nil {
		t.Fatal(err)
	}
	c.start(t)
	t.Cleanup(func() {
		close(c.over)
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
				<-c.over
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
	s, err := bmctest.LaunchIPMI(ctx, c.sim, bmctest.IPMIOptions{Addr: net.JoinHostPort(addr, "623"), Password: factoryWord, UUID: oldNode.UUID})
	return s.End, err
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
