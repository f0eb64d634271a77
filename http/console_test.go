package http

import (
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/console"
	"github.com/rackstage/provision/fleet"
)

func TestWhatMachinesSayIsNeverMarkup(t *testing.T) {
	const evil = `"'><script>alert(1)</script><img src=x onerror=alert(1)>{{.}}javascript:alert(1)`
	s, e := newTestServer(t)
	start := time.Unix(1_800_000_000, 0)
	n := fleet.Node{
		ID: "n-0000000003", Name: evil, MAC: "52:54:00:00:00:03", State: fleet.Failed, Phase: fleet.Phase(evil), Pool: evil, Stage: evil, Role: evil,
		UUID: evil, BMC: fleet.BMC{Address: evil}, Failure: fleet.Failure{Code: evil, Text: evil, Hint: evil, Phase: evil},
		System: fleet.System{Image: evil},
		Inventory: fleet.Inventory{
			Vendor: evil, Product: evil, Serial: evil, Firmware: evil, BIOS: evil, CPU: fleet.CPU{Model: evil, Threads: 1},
			Disks: []fleet.Disk{{Name: evil, Model: evil, Serial: evil, Holds: evil}}, NICs: []fleet.NIC{{LLDP: fleet.LLDP{System: evil, Port: evil}}},
		},
	}
	e.nodes = append(e.nodes, n)
	e.nodes[1].Inventory = n.Inventory
	e.site.Pools = append(e.site.Pools, fleet.Pool{Name: evil})
	e.runs = []fleet.Run{{
		ID: evil, Pool: evil, State: fleet.RunState(evil), Started: start,
		Nodes: []fleet.RunNode{{Node: n.ID, State: fleet.RunRunning, Started: start, Times: []fleet.PhaseTime{{Phase: fleet.Phase(evil), At: start}}}},
	}}
	e.events = []fleet.Event{{Seq: 1, Type: evil, Node: n.ID, Actor: evil, Text: evil}, {Seq: 2, Type: fleet.EventFailed, Node: evil, Text: evil}}

	e.alarms = []fleet.Alarm{{Code: evil, On: evil, Detail: evil}}
	s.o.Network = evilNetwork{text: evil}
	e.site.Subnets = []fleet.Subnet{{Name: "rack", CIDR: netip.MustParsePrefix("10.77.0.0/24")}}

	for _, path := range []string{"/", "/boot", "/?node=n-0000000003", "/?q=" + strings.ReplaceAll(strings.ReplaceAll(evil, " ", "+"), "#", ""), "/nodes/n-0000000003?part=panel", "/login?next=" + strings.ReplaceAll(evil, " ", "+")} {
		page := ask(s, "GET", path, "operator", "")
		html := page.Body.String()
		if page.Code != 200 {
			t.Errorf("%.40s: status %d", path, page.Code)
		}
		for _, bad := range []string{"<script>", "<img", `onerror=alert(1)>`, `href="javascript:`, "ZgotmplZ", "<no value>"} {
			if strings.Contains(html, bad) {
				t.Errorf("%.40s: the page has %q near %q", path, bad, around(html, bad))
			}
		}
	}
}

func around(s, sub string) string {
	i := strings.Index(s, sub)
	return s[max(0, i-80):min(len(s), i+80)]
}

func TestPagesHaveNoInlineStyleOrScript(t *testing.T) {
	s, _ := newTestServer(t)
	archive, err := console.OpenArchive(t.TempDir(), console.Limits{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	s.o.Consoles = console.NewHub(console.Options{Archive: archive})
	for _, path := range []string{"/", "/boot", "/?node=prd-1", "/login", "/nothing", "/nodes/prd-1/console"} {
		req := httptest.NewRequest("GET", path, nil)
		req.Host = "localhost"
		req.Header.Set("Accept", "text/html")
		req.Header.Set("Authorization", "Bearer operator")
		out := httptest.NewRecorder()
		through(s, doorPlain).ServeHTTP(out, req)
		html := out.Body.String()
		if !strings.HasPrefix(html, "<!doctype html>") {
			t.Errorf("%s is no page: %.60s", path, html)
		}
		for _, bad := range []string{" style=", "<style", " onclick=", " onload=", "<script>", "http://", "https://"} {
			if strings.Contains(html, bad) {
				t.Errorf("%s has %q, which the policy forbids, near %q", path, bad, around(html, bad))
			}
		}
	}
}

func TestTheConsole(t *testing.T) {
	tests := map[string]struct {
		path, token string
		has, hasNo  []string
	}{
		"shows every node": {
			"/", "viewer", []string{">prd-1<", ">52:54:00:00:00:02<", "2 of 2 match", "reload to update"}, nil,
		},
		"a search shows what matches": {
			"/?q=state:active", "viewer", []string{">prd-1<", "1 of 2 match"}, []string{`id="n-0000000002"`},
		},
		"a search that cannot be read says so": {
			"/?q=stat:active", "viewer", []string{"the search knows no", "did you mean &#34;state&#34;?", "0 of 2 match"}, nil,
		},
		"a viewer sees why he cannot approve": {
			"/", "viewer", []string{`disabled title="needs role operator"`}, []string{`class="primary" type="submit">Approve`},
		},
		"an operator can approve": {
			"/", "operator", []string{`class="primary" type="submit">Approve`}, []string{"needs role"},
		},
		"a node stands beside the table": {
			"/?node=prd-1", "viewer", []string{`class="panel" data-node="n-0000000001"`}, nil,
		},
		"a node whose usual loader failed says so": {
			"/?node=prd-1", "viewer", []string{"<dt>Loader</dt><dd>shimx64.efi: learned: snponly.efi did not start on this model</dd>", "provision nodes rescue prd-1"}, []string{"Boot rescue system"},
		},
		"a viewer cannot rescue": {
			"/?node=n-0000000003", "viewer", []string{`<button type="submit" disabled title="needs role operator">Boot rescue system`}, []string{"<dt>Loader</dt>"},
		},
		"an operator can": {
			"/?node=n-0000000003", "operator", []string{`<button type="submit">Boot rescue system`}, nil,
		},
		"and end it": {
			"/?node=n-0000000004", "operator", []string{`name="end"`, "End rescue", "in the rescue system since", "was ready", "provision nodes rescue n4 --end"}, nil,
		},
		"a node that is not there is no error": {
			"/?node=nobody", "viewer", []string{">prd-1<"}, []string{`class="panel"`},
		},
		"a page far behind the last is empty": {
			"/?page=999999999999", "viewer", []string{"2 of 2 match"}, []string{`id="n-0000000001"`},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s, e := newTestServer(t, func(o *Options) {
				o.Quirk = func(n fleet.Node) fleet.Quirk {
					if n.Name != "prd-1" {
						return fleet.Quirk{}
					}
					return fleet.Quirk{Loader: "shimx64.efi", Reason: "learned: snponly.efi did not start on this model"}
				}
			})
			if strings.Contains(tt.path, "node=n-") {
				e.nodes = append(e.nodes, fleet.Node{ID: "n-0000000003", Name: "n3", State: fleet.Ready, Approved: true},
					fleet.Node{ID: "n-0000000004", Name: "n4", State: fleet.Rescue, Rescue: fleet.Stay{From: fleet.Ready, Since: time.Unix(1, 0)}, Approved: true})
			}
			html := ask(s, "GET", tt.path, tt.token, "").Body.String()
			for _, want := range tt.has {
				if !strings.Contains(html, want) {
					t.Errorf("the page lacks %q", want)
				}
			}
			for _, no := range tt.hasNo {
				if strings.Contains(html, no) {
					t.Errorf("the page has %q", no)
				}
			}
		})
	}
}

func TestAnEmptyRackSaysWhatToDo(t *testing.T) {
	s, e := newTestServer(t)
	e.nodes = nil
	if html := ask(s, "GET", "/", "viewer", "").Body.String(); !strings.Contains(html, "No machine has said hello yet.") {
		t.Error("the page of an empty rack does not say what to do")
	}
}

func TestATimeLine(t *testing.T) {
	start := time.Unix(1_800_000_000, 0).UTC()
	now := start.Add(60 * time.Second)
	phases := []fleet.Phase{fleet.PhasePower, fleet.PhaseDHCP, fleet.PhaseKernel}
	usual := times{total: 60 * time.Second, at: map[fleet.Phase]time.Duration{fleet.PhasePower: 0, fleet.PhaseDHCP: 10 * time.Second, fleet.PhaseKernel: 12 * time.Second}}
	tests := map[string]struct {
		state    fleet.RunState
		lastTone string
		grows    bool
	}{
		"under way": {fleet.RunRunning, "ph-kernel", true}, // usual: the kernel takes what is left, 48 s
		"failed":    {fleet.RunFailed, "ph-late", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			n := installed(start, tt.state, phases, 10, 5, 45)
			sc := scene{now: now, usual: map[fleet.PoolName]times{"prd": usual}, scale: map[fleet.RunID]time.Duration{"prd-1": 2 * time.Minute}}
			line := sc.line(part{run: fleet.Run{ID: "prd-1", Pool: "prd"}, node: n})
			if len(line.Bars) != 3 || line.Bars[1].X != 83 || line.Bars[1].W != 42 || line.Bars[2].Tone != tt.lastTone || (line.Since != 0) != tt.grows {
				t.Errorf("line = %+v", line)
			}
			if want := "1m00s in all: power on 10s, DHCP 5s, kernel 45s"; line.Text != want {
				t.Errorf("in words: %q, want %q", line.Text, want)
			}
		})
	}
	t.Run("much later than usual", func(t *testing.T) {
		n := installed(start, fleet.RunRunning, phases[:2], 10, 5)
		sc := scene{now: now, usual: map[fleet.PoolName]times{"prd": usual}, scale: map[fleet.RunID]time.Duration{"prd-1": 2 * time.Minute}}
		p := part{run: fleet.Run{ID: "prd-1", Pool: "prd"}, node: n}
		if got, want := sc.slow(p), "DHCP takes long, usually 2s"; got != want || sc.line(p).Bars[1].Tone != "ph-slow" {
			t.Errorf("slow = %q, want %q; line %+v", got, want, sc.line(p))
		}
	})
}
