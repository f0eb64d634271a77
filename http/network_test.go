package http

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

func TestAlarmsAreToldWithTheirFix(t *testing.T) {
	c, e := local(t)
	since := time.Unix(1_800_000_000, 0).UTC()
	e.alarms = []fleet.Alarm{{Code: fleet.CodeRogueDHCP, On: "subnet rack", Detail: "10.20.0.254 (52:54:00:9a:11:07)", Since: since, Seen: since, Count: 3}}
	got, err := c.Alarms(t.Context())
	if err != nil || len(got) != 1 {
		t.Fatalf("Alarms = %+v, %v; want one", got, err)
	}
	if a := got[0]; a.Code != "E-DHCP-ROGUE" || a.Title == "" || !strings.Contains(a.Fix, "subnet rack") || a.Count != 3 || !a.Since.Equal(since) {
		t.Errorf("alarm = %+v, want all that is known of it, and the fix", a)
	}
}

func TestCountersAreTold(t *testing.T) {
	c, _ := local(t)
	if got, err := c.Counters(t.Context()); err != nil || got["provision_dhcp_naks_total"] != 2 {
		t.Errorf("Counters = %v, %v; want what was counted", got, err)
	}
}

func TestASiteThatArmsBesideAnotherServerTakesForce(t *testing.T) {
	s, _ := newTestServer(t, func(o *Options) {
		o.Arming = func(context.Context, []fleet.Subnet, []fleet.Subnet) error {
			return &fleet.Error{Kind: fleet.Conflict, Code: fleet.CodeRogueDHCP, Hint: "use mode: proxy", Err: errors.New("another DHCP server answers: 10.20.0.254")}
		}
	})
	for body, want := range map[string]int{
		`{"yaml": "", "dry_run": true}`:                      http.StatusConflict,
		`{"yaml": "", "dry_run": false}`:                     http.StatusConflict,
		`{"yaml": "", "dry_run": false, "force_dhcp": true}`: http.StatusOK,
	} {
		got := ask(s, "POST", "/api/v1/site", "admin", body)
		if got.Code != want || want == http.StatusConflict && !strings.Contains(got.Body.String(), "10.20.0.254") {
			t.Errorf("%s: status %d, %s; want %d", body, got.Code, got.Body, want)
		}
	}
}

// A quietNetwork has one subnet with one lease and one other server.
type quietNetwork struct{ noNetwork }

func (quietNetwork) Foreign() []api.ForeignServer {
	return []api.ForeignServer{{Addr: "10.77.0.254", MAC: "52:54:00:9a:11:07", Subnet: "rack", Full: true}, {Addr: "192.168.1.1"}, {
		Addr: "fe80::7", Subnet: "rack-2", Router: true, Against: "it wants to be the default router", Words: "52:54:00:9a:11:08 on eno2",
	}}
}

func (quietNetwork) Uses() map[string][]api.RangeUse {
	return map[string][]api.RangeUse{"rack": {{Size: 100, Used: 81, Percent: 81}}}
}

func (quietNetwork) List(subnet string, after netip.Addr, limit int) (list []fleet.Lease) {
	for i := byte(1); i <= 3; i++ {
		l := fleet.Lease{Addr: netip.AddrFrom4([4]byte{10, 77, 0, i}), Subnet: "rack", MAC: "52:54:00:00:00:01", State: fleet.LeaseBound}
		if (!after.IsValid() || after.Less(l.Addr)) && len(list) < limit && subnet != "other" {
			list = append(list, l)
		}
	}
	return list
}

func (quietNetwork) Import(_ context.Context, four []fleet.Lease, six []fleet.Lease6, _ string, _ bool) (api.ImportedLeases, error) {
	done := api.ImportedLeases{Taken: len(four)}
	for _, l := range six {
		done.Refused = append(done.Refused, api.RefusedLease{Addr: l.Addr.String(), Reason: fmt.Sprint(l.DUID, " ", l.IAID, " ", l.MAC)})
	}
	return done, nil
}

func TestSubnetsAreToldWithWhatIsKnownOfThem(t *testing.T) {
	s, e := newTestServer(t, func(o *Options) { o.Network = quietNetwork{} })
	e.site.Subnets = []fleet.Subnet{{Name: "rack", CIDR: netip.MustParsePrefix("10.77.0.0/24"), Mode: fleet.Full}, {Name: "rack-2", CIDR: netip.MustParsePrefix("10.78.0.0/24")}}
	e.alarms = []fleet.Alarm{{Code: fleet.CodeRogueDHCP, On: "10.77.0.254 on subnet rack"}, {Code: fleet.CodePoolForecast, On: "subnet rack, class phones"}}
	got := s.subnets()
	if n := got.Subnets[0]; n.Alarms != 2 || len(n.Foreign) != 1 || n.Foreign[0].MAC != "52:54:00:9a:11:07" || n.Ranges[0].Percent != 81 {
		t.Errorf("subnet rack = %+v", n)
	}
	if n := got.Subnets[1]; n.Alarms != 0 || len(n.Foreign) != 1 || !n.Foreign[0].Router {
		t.Errorf("subnet rack-2 = %+v, want that its namesake's alarms are not its own", n)
	}
	page := ask(s, "GET", "/boot", "viewer", "").Body.String()
	if !strings.Contains(page, "fe80::7") || !strings.Contains(page, "it wants to be the default router: 52:54:00:9a:11:08 on eno2") {
		t.Error("the console does not say what a router does that it shall not")
	}
	if len(got.Foreign) != 1 || got.Foreign[0].Addr != "192.168.1.1" {
		t.Errorf("servers elsewhere = %+v", got.Foreign)
	}
}

func TestLeasesPageByPage(t *testing.T) {
	s, _ := newTestServer(t, func(o *Options) { o.Network = quietNetwork{} })
	first := ask(s, "GET", "/api/v1/leases?limit=2", "viewer", "").Body.String()
	if !strings.Contains(first, `"next":"10.77.0.2"`) || !strings.Contains(first, `"node":"prd-1"`) {
		t.Errorf("first page %s, want two leases and where to go on", first)
	}
	second := ask(s, "GET", "/api/v1/leases?limit=2&after=10.77.0.2", "viewer", "").Body.String()
	if !strings.Contains(second, "10.77.0.3") || strings.Contains(second, `"next"`) {
		t.Errorf("second page %s", second)
	}
	for path, want := range map[string]int{"/api/v1/leases?after=x": 422, "/api/v1/leases?limit=1001": 422, "/api/v1/leases?subnet=other": 200} {
		if got := ask(s, "GET", path, "viewer", ""); got.Code != want {
			t.Errorf("%s: status %d, want %d", path, got.Code, want)
		}
	}
}

func TestWithoutDHCPNothingIsImported(t *testing.T) {
	s, _ := newTestServer(t)
	body := `{"leases": [{"addr": "10.77.0.9", "subnet": "", "mac": "52:54:00:00:00:01", "state": "bound", "expires": "2027-01-01T00:00:00Z"}], "dry_run": false}`
	if got := ask(s, "POST", "/api/v1/leases/import", "admin", body); got.Code != http.StatusConflict || !strings.Contains(got.Body.String(), "E-DHCP-OFF") {
		t.Errorf("status %d, %s", got.Code, got.Body)
	}
	s, _ = newTestServer(t, func(o *Options) { o.Network = quietNetwork{} })
	if got := ask(s, "POST", "/api/v1/leases/import", "admin", body); !strings.Contains(got.Body.String(), `"taken":1`) {
		t.Errorf("status %d, %s", got.Code, got.Body)
	}
	if got := ask(s, "POST", "/api/v1/leases/import", "admin", strings.Replace(body, "10.77", "x", 1)); got.Code != 422 {
		t.Errorf("a lease without an address: status %d", got.Code)
	}
	if got := ask(s, "POST", "/api/v1/leases/import", "admin", strings.Replace(body, "52:54:00:00:00:01", "", 1)); got.Code != 422 {
		t.Errorf("a lease of IPv4 without a MAC address: status %d", got.Code)
	}
	body = `{"leases": [{"addr": "fd77::9", "subnet": "", "mac": "", "client_id": "000300015254", "iaid": 7, "state": "bound", "expires": "2027-01-01T00:00:00Z"}], "dry_run": false}`
	if got := ask(s, "POST", "/api/v1/leases/import", "admin", body); !strings.Contains(got.Body.String(), `"reason":"000300015254 7 "`) {
		t.Errorf("a lease of IPv6: status %d, %s", got.Code, got.Body)
	}
}

// An evilNetwork says one thing about everything.
type evilNetwork struct {
	noNetwork
	text string
}

func (n evilNetwork) Foreign() []api.ForeignServer {
	return []api.ForeignServer{{Addr: n.text, Subnet: "rack", Words: n.text}, {Addr: n.text, Words: n.text}}
}

func (n evilNetwork) Uses() map[string][]api.RangeUse {
	return map[string][]api.RangeUse{"rack": {{Class: n.text, Size: 1}}}
}

func (n evilNetwork) List(string, netip.Addr, int) []fleet.Lease {
	return []fleet.Lease{{Addr: netip.MustParseAddr("10.77.0.9"), Subnet: n.text, MAC: fleet.MAC(n.text), Hostname: n.text, State: fleet.LeaseState(n.text)}}
}

// Trouble of every kind is on each page with its code, and on the page about
// the network with its fix; a problem to programs has the same words.
func TestEveryDiagnosisReachesTheConsole(t *testing.T) {
	for _, d := range fleet.Diagnoses() {
		s, e := newTestServer(t, func(o *Options) { o.Network = quietNetwork{} })
		if strings.Contains(ask(s, "GET", "/", "viewer", "").Body.String(), "banner alarm") {
			t.Fatal("an alarm where there is none")
		}
		e.alarms = []fleet.Alarm{{Code: d.Code, On: "the thing", Detail: "what was seen", Since: s.o.Now().Add(-time.Minute)}}
		for _, path := range []string{"/", "/boot"} {
			html := ask(s, "GET", path, "viewer", "").Body.String()
			if !strings.Contains(html, "banner alarm") || !strings.Contains(html, d.Code) || !strings.Contains(html, "the thing") {
				t.Errorf("%s: %s is not on the page", d.Code, path)
			}
		}
		html := ask(s, "GET", "/boot", "viewer", "").Body.String()
		fix := strings.NewReplacer("&", "&amp;", "'", "&#39;", "<", "&lt;", ">", "&gt;", `"`, "&#34;", "+", "&#43;").Replace(d.FixFor("the thing"))
		if !strings.Contains(html, fix) || !strings.Contains(html, "what was seen") || !strings.Contains(html, "for 1m00s") {
			t.Errorf("%s: the page does not say what to do", d.Code)
		}
		if d.Fix == "" || d.Title == "" || strings.HasSuffix(d.Fix, ".") {
			t.Errorf("%s: title %q, fix %q; want a clause each", d.Code, d.Title, d.Fix)
		}
	}
}

func TestStrangersHearOfNoAlarms(t *testing.T) {
	s, e := newTestServer(t)
	e.alarms = []fleet.Alarm{{Code: fleet.CodeRogueDHCP, On: "10.77.0.254 on subnet rack"}}
	if html := ask(s, "GET", "/login", "", "").Body.String(); strings.Contains(html, "10.77.0.254") {
		t.Error("the login page tells strangers of the network")
	}
}
