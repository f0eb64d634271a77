package http

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/access"
	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

// relayShelf is an access.RelayStore in a map.
type relayShelf map[string]fleet.Relay

func (s relayShelf) Relays(context.Context) ([]fleet.Relay, error)    { return nil, nil }
func (s relayShelf) SaveRelay(_ context.Context, r fleet.Relay) error { s[r.Name] = r; return nil }
func (s relayShelf) DeleteRelay(_ context.Context, name string) error { delete(s, name); return nil }

// A relaySite has a subnet with a relay, and one without.
type relaySite struct {
	*tlsSite
	relays *access.Relays
	key    *agentKey
	client *http.Client
	saw    whatRelaysSee
	dir    string // of boot files
}

func newRelaySite(t *testing.T) *relaySite {
	t.Helper()
	site := &relaySite{key: newAgentKey(t)}
	site.tlsSite = newTLSSite(t, func(o *Options, a *access.Authority) {
		var err error
		if site.relays, err = access.OpenRelays(t.Context(), relayShelf{}, a); err != nil {
			t.Fatal(err)
		}
		o.Relays, o.Segments, site.dir = site.relays, &site.saw, o.BootDir
		o.Leases = leaseBook{netip.MustParseAddr("10.78.0.50"): "52:54:00:00:00:77"}
	})
	site.engine.site.Subnets = []fleet.Subnet{
		{Name: "west-boot", CIDR: netip.MustParsePrefix("10.78.0.0/24"), Mode: fleet.Full, Router: netip.MustParseAddr("10.78.0.1")},
		{Name: "prd-boot", CIDR: netip.MustParsePrefix("10.79.0.0/24"), Mode: fleet.Full},
	}
	token, _, err := site.relays.Add(t.Context(), "anna", "west", []string{"west-boot"})
	if err != nil {
		t.Fatal(err)
	}
	secret, _, _ := strings.Cut(token, ".")
	var reply api.RelayEnrolReply
	if got := site.call(nil, "POST", api.PathRelayEnrol, api.RelayEnrolRequest{Token: secret, CSR: site.key.request(t)}, &reply); got != 200 || reply.Name != "west" {
		t.Fatalf("enrol: status %d, %+v", got, reply)
	}
	site.key.cert = []byte(reply.Certificate)
	block, _ := pem.Decode(site.key.cert)
	transport := &http.Transport{ForceAttemptHTTP2: true, MaxConnsPerHost: 40, TLSClientConfig: &tls.Config{
		RootCAs: site.roots(), Certificates: []tls.Certificate{{Certificate: [][]byte{block.Bytes}, PrivateKey: site.key.key}},
	}}
	t.Cleanup(transport.CloseIdleConnections)
	site.client = &http.Client{Transport: transport}
	status := fleet.RelayStatus{Places: []fleet.RelayAt{{Subnet: "west-boot", Addr: netip.MustParseAddr("10.78.0.1")}}}
	if err := site.relays.Report(t.Context(), "west", status); err != nil {
		t.Fatal(err)
	}
	return site
}

func (s *tlsSite) roots() *x509.CertPool {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.authority.CAPEM())
	return roots
}

// ask sends a request as the relay, for a machine if one is named.
func (s *relaySite) ask(method, path, machine string, body io.Reader) (*http.Response, string) {
	s.t.Helper()
	return s.askAt("10.78.0.1", method, path, machine, body)
}

// askAt is for a machine that wrote to an address of the relay.
func (s *relaySite) askAt(local, method, path, machine string, body io.Reader) (*http.Response, string) {
	s.t.Helper()
	req, _ := http.NewRequestWithContext(s.t.Context(), method, s.base+path, body)
	if machine != "" {
		req.Header.Set(api.HeaderMachine, machine)
		req.Header.Set(api.HeaderLocal, local)
	}
	res, err := s.client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	return res, string(text)
}

const scriptPath = api.PathRelayBoot + "boot/ipxe?mac=52-54-00-00-00-77&platform=efi&arch=x86_64"

func TestAMachineBehindARelayGetsAScriptForItsOwnAddress(t *testing.T) {
	s := newRelaySite(t)
	res, body := s.ask("GET", scriptPath, "10.78.0.50:4711", nil)
	if res.StatusCode != 200 || !strings.Contains(body, "provision.ticket=") {
		t.Fatalf("status %d, script\n%s", res.StatusCode, body)
	}
	if got := s.engine.mintFor.String(); got != "10.78.0.50" {
		t.Errorf("the ticket is for %s, want the machine's address", got)
	}
	if !strings.Contains(body, "http://10.78.0.1/boot/vmlinuz") || !strings.Contains(body, "https://10.78.0.1:8443") {
		t.Errorf("the script does not name the relay:\n%s", body)
	}
}

func TestARelaySpeaksForItsOwnSubnetOnly(t *testing.T) {
	s := newRelaySite(t)
	for name, machine := range map[string]string{"another subnet": "10.79.0.50:1", "no subnet": "192.0.2.1:1", "no address": "west", "nobody": ""} {
		if res, body := s.ask("GET", scriptPath, machine, nil); res.StatusCode/100 != 4 || strings.Contains(body, "ticket") {
			t.Errorf("for a machine of %s: status %d, %s", name, res.StatusCode, body)
		}
		if res, _ := s.ask("POST", api.PathRelayTunnel, machine, strings.NewReader("x")); res.StatusCode/100 != 4 {
			t.Errorf("a tunnel for a machine of %s: status %d", name, res.StatusCode)
		}
	}
	if s.engine.minted != 0 {
		t.Errorf("%d tickets were made", s.engine.minted)
	}
}

func TestARelaySpeaksFromItsOwnAddressesOnly(t *testing.T) {
	s := newRelaySite(t)
	for name, local := range map[string]string{"a neighbour's": "10.78.0.2", "the server's": "127.0.0.1", "somebody's": "192.0.2.1"} {
		for _, to := range []struct{ method, path string }{{"GET", scriptPath}, {"POST", api.PathRelayTunnel}} {
			if res, body := s.askAt(local, to.method, to.path, "10.78.0.50:1", strings.NewReader("")); res.StatusCode != 403 || !strings.Contains(body, local) {
				t.Errorf("%s from an address that is %s: status %d, %s; want 403", to.path, name, res.StatusCode, body)
			}
		}
	}
}

func TestWhatSaysThatItIsARelayIsNotBelieved(t *testing.T) {
	s := newRelaySite(t)
	node := newAgentKey(t)
	cert, err := s.authority.SignBoot([]byte(node.request(t)), "n-0000000001")
	if err != nil {
		t.Fatal(err)
	}
	node.cert = cert
	for name, who := range map[string]*agentKey{"nobody": nil, "a node": node} {
		for _, path := range []string{scriptPath, api.PathRelaySnapshot, api.PathRelayFiles + "vmlinuz"} {
			if got := s.call(who, "GET", path, nil, nil); got != 401 {
				t.Errorf("%s asks %s: status %d, want 401", name, path, got)
			}
		}
	}
	if got := s.call(s.key, "POST", api.PathPoll, api.PollRequest{BootID: "x"}, nil); got != 401 {
		t.Errorf("a relay polls as a node: status %d, want 401", got)
	}
	if got := s.call(s.key, "GET", "/api/v1/nodes", nil, nil); got != 401 {
		t.Errorf("a relay asks for nodes: status %d, want 401", got)
	}
	if err := s.relays.Remove(t.Context(), "west"); err != nil {
		t.Fatal(err)
	}
	if res, _ := s.ask("GET", api.PathRelaySnapshot, "", nil); res.StatusCode != 401 {
		t.Errorf("a relay that was removed: status %d, want 401", res.StatusCode)
	}
}

func TestWhoStopsWaitingForABootFileIsLetGo(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	var m manifest
	goOn, reading := make(chan struct{}), make(chan struct{})
	first := m.flights.DoChan("", func() (any, error) { // somebody who reads a large file
		close(reading)
		<-goOn
		return m.walk(root)
	})
	<-reading
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.files(ctx, root); !errors.Is(err, context.Canceled) {
		t.Errorf("files = %v, want that it was cancelled", err)
	}
	close(goOn)
	if r := <-first; r.Err != nil {
		t.Error(r.Err)
	}
}

func TestBootFilesForARelay(t *testing.T) {
	s := newRelaySite(t)
	for path, want := range map[string]int{"vmlinuz": 200, "../outside": 404, "%2e%2e/outside": 404, ".hidden": 404, "link": 404, "": 404, "/etc/passwd": 404} {
		if res, _ := s.ask("GET", api.PathRelayFiles+path, "", nil); res.StatusCode != want {
			t.Errorf("GET %q: status %d, want %d", path, res.StatusCode, want)
		}
	}
	if seen := s.engine.evidence(); len(seen) != 0 {
		t.Errorf("a relay's cache made evidence: %v", seen)
	}
}

// TestChunksForARelay asks for no machine: whoever wants a chunk may have it.
func TestChunksForARelay(t *testing.T) {
	s := newRelaySite(t)
	good := "0123/" + testChunk + ".cacnk"
	for path, want := range map[string]int{good: 200, "0124/" + testChunk + ".cacnk": 404, "../files/vmlinuz": 404, "": 404} {
		if res, body := s.ask("GET", api.PathRelayChunks+path, "", nil); res.StatusCode != want || want == 200 && body != "chunk" {
			t.Errorf("GET %q: status %d, %q; want %d", path, res.StatusCode, body, want)
		}
	}
	if seen := s.engine.evidence(); len(seen) != 0 {
		t.Errorf("a relay's cache made evidence: %v", seen)
	}
}

func TestAReportMakesEvidenceOfItsOwnMachines(t *testing.T) {
	s := newRelaySite(t)
	report := api.RelayReport{
		Version: "1.2", Places: []api.RelayPlace{{Subnet: "west-boot", Addr: netip.MustParseAddr("10.78.0.1")}, {Subnet: "west-boot", Addr: netip.MustParseAddr("192.0.2.1")}},
		Seen: []api.RelayFetched{
			{Addr: netip.MustParseAddr("10.78.0.50"), File: "vmlinuz", By: "HTTP"},
			{Addr: netip.MustParseAddr("10.79.0.50"), File: "vmlinuz", By: "HTTP"},
		},
	}
	report.Usage = api.RelayUsage{Requests: 9, TFTP: api.RelayTFTP{Unheard: 3}, HTTP: api.RelayHTTP{SlowHeaders: 5}}
	if got := s.call(s.key, "POST", api.PathRelayReport, report, nil); got != 200 {
		t.Fatalf("status %d", got)
	}
	if got := s.relays.Totals(); got.Requests != 9 || got.TFTP != (fleet.RelayTFTP{Unheard: 3}) || got.HTTP != (fleet.RelayHTTP{SlowHeaders: 5}) {
		t.Errorf("its counters are %+v, want those that it reported", got)
	}
	if seen := s.engine.evidence(); len(seen) != 1 || seen[0].MAC != "52:54:00:00:00:77" || seen[0].Phase != fleet.PhaseKernel || seen[0].Detail != "vmlinuz by HTTP from relay west to 10.78.0.50" {
		t.Errorf("evidence %v, want one fact about the machine", seen)
	}
	if got := s.relays.AddrOn("west-boot"); got.String() != "10.78.0.1" || len(s.relays.List()[0].Places) != 1 {
		t.Errorf("the relay is at %v, want 10.78.0.1 alone", s.relays.List()[0].Places)
	}
}

// TestTheNetworkPageShowsRelays also when nobody hears them, and what they drop.
func TestTheNetworkPageShowsRelays(t *testing.T) {
	r := relaysAsSeen{
		list: []fleet.Relay{
			{Name: "west", Subnets: []string{"west-boot"}, Enrolled: time.Unix(1, 0), Places: []fleet.RelayAt{{Subnet: "west-boot", Addr: netip.MustParseAddr("10.78.0.1")}}},
			{Name: "east", Subnets: []string{"east-boot"}},
		},
		status: map[string]fleet.RelayStatus{"west": {Requests: 40, Relayed: 36, Strangers: 3, Unsent: 2, BOOTP: 1, Served: 4e9, TFTP: fleet.RelayTFTP{Strangers: 4, Capped: 1, NotFound: 70}, HTTP: fleet.RelayHTTP{HeadersTooLarge: 2, ConnsPushedOut: 4, IdleClosed: 70}, Trouble: []fleet.RelayTrouble{{Code: fleet.CodeRelayNoIPv6, Detail: "DHCPv6: port taken"}}}},
	}
	s, e := newTestServer(t, func(o *Options) { o.Relays = r })
	west := r.status["west"]
	west.Seen = s.o.Now().Add(-2 * time.Hour)
	r.status["west"] = west
	e.alarms = []fleet.Alarm{{Code: fleet.CodeRelaySilent, On: r.list[0].On(), Detail: "last heard long ago", Since: s.o.Now()}}
	html := ask(s, "GET", "/boot", "viewer", "").Body.String()
	for _, want := range []string{"west-boot", "10.78.0.1", "2h00m ago", "tone-bad", "40 asked, 36 passed on", "3 not the server", "2 not sent", "1 by BOOTP", "5 refused by TFTP", "6 refused by HTTP", "4 GB served", "not enrolled", "provision relays remove"} {
		if !strings.Contains(html, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	var list api.RelayList
	if err := json.Unmarshal(ask(s, "GET", "/api/v1/relays", "viewer", "").Body.Bytes(), &list); err != nil {
		t.Fatal(err)
	}
	if w := list.Relays[0]; !w.Silent || len(w.Trouble) != 1 || w.Trouble[0].Detail != "DHCPv6: port taken" || w.Usage.Strangers != 3 || w.Usage.Unsent != 2 || w.Usage.BOOTP != 1 || w.Usage.TFTP.Strangers != 4 || w.Usage.HTTP.HeadersTooLarge != 2 || list.Relays[1].Silent {
		t.Errorf("the API says %+v", list.Relays)
	}
}

// relaysAsSeen are Relays that somebody looks at.
type relaysAsSeen struct {
	Relays
	list   []fleet.Relay
	status map[string]fleet.RelayStatus
}

func (r relaysAsSeen) List() []fleet.Relay                  { return r.list }
func (r relaysAsSeen) Status(name string) fleet.RelayStatus { return r.status[name] }

// whatRelaysSee is Segments that remember.
type whatRelaysSee struct{ foreign, transfers []string }

func (w *whatRelaysSee) Foreign(relay, subnet string, f api.RelayForeign) {
	seen := relay + " " + subnet + " " + f.Addr.String() + " " + f.DUID
	if f.Router != nil {
		seen += fmt.Sprint(f.Router.Lifetime, len(f.Router.Prefixes))
	}
	w.foreign = append(w.foreign, seen)
}

func (w *whatRelaysSee) MaxBlock(netip.Addr) int { return 1024 }

func (w *whatRelaysSee) Transferred(relay string, f api.RelayFetched) {
	w.transfers = append(w.transfers, relay+" "+f.Transfer.Err)
}

func TestARelayIsToldTheBlockOfAMachineThatNeedsASmallOne(t *testing.T) {
	s := newRelaySite(t)
	if res, body := s.ask("GET", api.PathRelayQuirk, "10.78.0.50:1", nil); res.StatusCode != 200 || strings.TrimSpace(body) != `{"block_size":1024}` {
		t.Errorf("status %d, %s", res.StatusCode, body)
	}
	if res, _ := s.ask("GET", api.PathRelayQuirk, "10.79.0.50:1", nil); res.StatusCode != 403 {
		t.Errorf("a machine of another subnet: status %d, want 403", res.StatusCode)
	}
}

func TestWhatARelaySeesOnItsOwnSubnetsIsBelieved(t *testing.T) {
	s := newRelaySite(t)
	saw := &s.saw
	other, here, there := netip.MustParseAddr("10.78.0.254"), netip.MustParseAddr("10.78.0.1"), netip.MustParseAddr("10.79.0.1")
	failed := &api.RelayTransfer{Err: api.TransferUnheard}
	six := api.RelayForeign{At: here, Addr: netip.MustParseAddr("fe80::1%<b>"), DUID: strings.Repeat("AB", 200)}
	router := api.RelayForeign{At: here, Addr: netip.MustParseAddr("fe80::2"), Router: &api.RelayRouter{Lifetime: 1000 * time.Hour, Prefixes: make([]api.RelayPrefix, 1, 99)}}
	for range 98 {
		router.Router.Prefixes = append(router.Router.Prefixes, api.RelayPrefix{Prefix: netip.MustParsePrefix("fd78::/64")})
	}
	report := api.RelayReport{
		Foreign: []api.RelayForeign{{At: here, Addr: other, MAC: "52:54:00:00:00:09"}, {At: there, Addr: other}, {At: here}, six, {At: here, Addr: six.Addr, DUID: "no hex"}, router},
		Seen: []api.RelayFetched{
			{Addr: netip.MustParseAddr("10.78.0.50"), File: "ipxe.efi", By: "TFTP", Transfer: failed},
			{Addr: netip.MustParseAddr("10.79.0.50"), File: "ipxe.efi", By: "TFTP", Transfer: failed},
			{Addr: netip.MustParseAddr("10.78.0.50"), File: "ipxe.efi", By: "HTTP"},
		},
		Trouble: []api.RelayTrouble{{Code: fleet.CodeRelayDisk, Detail: "cache: \x1b[31mfull"}, {Code: fleet.CodeRogueDHCP, Detail: "not its business"}, {Code: fleet.CodeTFTPStranger, Detail: "TFTP: 10.99.0.50"}},
	}
	if got := s.call(s.key, "POST", api.PathRelayReport, report, nil); got != 200 {
		t.Fatalf("status %d", got)
	}
	if got := s.relays.Status("west").Trouble; len(got) != 2 || got[0].Code != fleet.CodeRelayDisk || strings.Contains(got[0].Detail, "\x1b") || got[1].Code != fleet.CodeTFTPStranger {
		t.Errorf("trouble %+v, want that of its own disk, as text, and who hears nothing", got)
	}
	if want := []string{"west west-boot 10.78.0.254 ", "west west-boot fe80::1 " + strings.Repeat("ab", maxDUID), "west west-boot fe80::2 18h12m15s 15"}; !slices.Equal(saw.foreign, want) {
		t.Errorf("other servers %q, want those of its own subnet, %q", saw.foreign, want)
	}
	if len(saw.transfers) != 1 || saw.transfers[0] != "west unheard" {
		t.Errorf("transfers %q, want that of its own machine", saw.transfers)
	}
	if seen := s.engine.evidence(); len(seen) != 1 || seen[0].File != "ipxe.efi" {
		t.Errorf("evidence %+v, want one fact that names the loader", seen)
	}
}
