package http

import (
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

func TestWhatIsShownIsWhatTheMachineGets(t *testing.T) {
	c, e := local(t, func(o *Options) {
		o.ServerFor = func(netip.Addr) (netip.Addr, error) { return netip.MustParseAddr("10.77.0.1"), nil }
		o.Seed = func(n fleet.Node, p fleet.Profile) ([]fleet.SeedFile, error) {
			if n.Name == "" {
				return nil, errors.New("not a host name")
			}
			return []fleet.SeedFile{{Path: "/etc/hostname", Mode: 0o644, Data: []byte(n.Name + " " + p.Name)}}, nil
		}
	})
	e.site.Scripts = []fleet.Script{{Name: "mine", Nodes: []string{"52:54:00:00:00:02"}, IPXE: customText}}
	e.nodes[1].Addr = netip.MustParseAddr("10.77.0.102")
	tests := map[string]struct {
		ref, as string
		name    string
		has     []string
	}{
		"a script":                    {"prd-1", "ipxe", "local.ipxe", []string{"sanboot", "prd-1"}},
		"a custom script":             {"52:54:00:00:00:02", "ipxe", "mine.ipxe", []string{"custom for  52:54:00:00:00:02", "http://10.77.0.1/boot/ipxe?mac=52-54-00-00-00-02"}},
		"the agent's script":          {"n-0000000002", "agent", "", nil},
		"a menu":                      {"prd-1", "menu", "menu.ipxe", []string{"choose", "pool prd"}},
		"the script for its disk":     {"n-0000000002", "local", "local.ipxe", []string{"sanboot"}},
		"a menu for GRUB":             {"prd-1", "grub-menu", "grub.cfg", []string{"menuentry", "pool prd"}},
		"the rescue system":           {"prd-1", "rescue", "rescue.ipxe", []string{"the server has no rescue.img"}},
		"a script for GRUB":           {"n-0000000002", "grub", "grub.cfg", []string{"linux", "provision.ticket=" + noTicket}},
		"a stranger's":                {"52:54:00:00:00:99", "ipxe", "agent.ipxe", []string{"provision.ticket=" + noTicket, "BOOTIF=01-52-54-00-00-00-99"}},
		"a seed":                      {"prd-1", "seed", "/etc/hostname", []string{"prd-1 docker"}},
		"a seed of a node in no pool": {"n-0000000002", "seed", "", nil},
		"a script that is not there":  {"prd-1", "custom", "", nil},
		"an unknown node":             {"nobody", "ipxe", "", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := c.Render(t.Context(), tt.ref, tt.as)
			if tt.name == "" {
				var p *api.Problem
				if !errors.As(err, &p) || p.Status == http.StatusInternalServerError {
					t.Fatalf("Render = %+v, %v; want an error that says why", got, err)
				}
				return
			}
			if err != nil || len(got.Files) != 1 || got.Files[0].Name != tt.name {
				t.Fatalf("Render = %+v, %v; want %s", got, err, tt.name)
			}
			for _, want := range tt.has {
				if !strings.Contains(got.Files[0].Text, want) {
					t.Errorf("lacks %q:\n%s", want, got.Files[0].Text)
				}
			}
		})
	}
	if e.minted != 0 || len(e.evidence()) != 0 {
		t.Errorf("%d tickets, %d facts; want none: nothing booted", e.minted, len(e.evidence()))
	}
	list, err := c.Templates(t.Context())
	if err != nil || list[0].Name != "mine" || list[0].For[0] != "52:54:00:00:00:02" || len(list) < 8 {
		t.Errorf("Templates = %+v, %v", list, err)
	}
}

// What the machine fetches and what is shown differ in the ticket only.
func TestWhatIsShownDiffersInTheTicketOnly(t *testing.T) {
	base, e := serveBoot(t)
	e.nodes = append(e.nodes, fleet.Node{ID: "n-0000000011", Name: "ready-1", MAC: "52:54:00:00:00:11", State: fleet.Ready, Addr: netip.MustParseAddr("127.0.0.1"), Inventory: fleet.Inventory{Firmware: "bios"}})
	_, fetched := fetch(t, base, "GET", "/boot/ipxe?mac=52-54-00-00-00-11")
	s, shownBy := newTestServer(t, func(o *Options) {
		o.ServerFor = func(netip.Addr) (netip.Addr, error) { return netip.MustParseAddr("127.0.0.1"), nil }
	})
	shownBy.nodes = e.nodes
	out, err := s.renderNode(t.Context(), &renderNode{Ref: "ready-1", As: "ipxe"})
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(fetched, "provision.ticket=")
	ticket := after[:len(noTicket)]
	if got := strings.ReplaceAll(fetched, ticket, noTicket); got != out.Body.Files[0].Text {
		t.Errorf("fetched\n%s\nshown\n%s", got, out.Body.Files[0].Text)
	}
}

// Where firmware boots by HTTPS, all that a script names comes by that: shown as
// to a machine that fetches it so.
func TestWhatIsShownWhereFirmwareBootsByHTTPS(t *testing.T) {
	server, there := netip.MustParseAddr("10.77.0.1"), netip.MustParsePrefix("10.77.0.0/24")
	s, e := newTestServer(t, func(o *Options) {
		o.BootHTTPS, o.ByHTTPS = 443, there.Contains
		o.ServerFor = func(netip.Addr) (netip.Addr, error) { return server, nil }
	})
	of := func(name, mac, addr, firmware string) fleet.Node {
		return fleet.Node{ID: fleet.NodeID("n-" + name), Name: name, MAC: fleet.MAC(mac), State: fleet.Ready, Addr: netip.MustParseAddr(addr), Inventory: fleet.Inventory{Firmware: firmware}}
	}
	e.nodes = append(e.nodes, of("uefi", "52:54:00:00:00:21", "10.77.0.21", "uefi"), of("bios", "52:54:00:00:00:22", "10.77.0.22", "bios"), of("apart", "52:54:00:00:00:23", "10.78.0.23", "uefi"))
	for name, secure := range map[string]bool{"uefi": true, "bios": false, "apart": false} {
		t.Run(name, func(t *testing.T) {
			n, err := s.o.Engine.Node(name)
			if err != nil {
				t.Fatal(err)
			}
			out, err := s.renderNode(t.Context(), &renderNode{Ref: name, As: "ipxe"})
			if err != nil {
				t.Fatal(err)
			}
			query := url.Values{"mac": {string(n.MAC)}, "arch": {"7"}}
			if name == "bios" {
				query.Set("arch", "0")
			}
			given := boot{s}.scriptFor(t.Context(), new(scriptBuffer), scriptAsk{addr: n.Addr, local: server, query: query.Encode(), secure: secure, dry: true})
			shown := out.Body.Files[0].Text
			if string(given.text) != shown {
				t.Errorf("given\n%s\nshown\n%s", given.text, shown)
			}
			if said := strings.Contains(out.Body.Why, "by https"); said != secure {
				t.Errorf("why: %q", out.Body.Why)
			}
			if want := map[bool]string{true: "https://10.77.0.1/boot/", false: "http://10.77.0.1/boot/"}[secure]; !strings.Contains(shown, want) {
				t.Errorf("shown without %s:\n%s", want, shown)
			}
		})
	}
}

func TestACustomScriptIsShownInBothItsForms(t *testing.T) {
	c, e := local(t)
	e.site.Scripts = []fleet.Script{{Name: "mine", Nodes: []string{"prd-1"}, IPXE: customText, GRUB: "echo {{.Name}}\nsource {{.Agent}}\n"}}
	got, err := c.Render(t.Context(), "prd-1", "custom")
	if err != nil || len(got.Files) != 2 || got.Files[0].Name != "mine.ipxe" || got.Files[1].Name != "mine.cfg" {
		t.Fatalf("Render = %+v, %v; want mine.ipxe and mine.cfg", got.Files, err)
	}
	if text := got.Files[1].Text; !strings.HasPrefix(text, "echo prd-1\nsource (http,") || !strings.HasSuffix(text, "/boot/grub/x86_64/52:54:00:00:00:01.agent.cfg\n") {
		t.Errorf("for GRUB it is\n%s", text)
	}
}
