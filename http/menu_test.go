package http

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/pxe"
)

const customText = "#!ipxe\necho custom for {{.Name}} {{.MAC}}\nchain {{.Agent}}\n"

func TestWhatAMachineCanChoose(t *testing.T) {
	const unknown, active, ready, quarantined = "52-54-00-00-00-99", "52-54-00-00-00-01", "52-54-00-00-00-11", "52-54-00-00-00-13"
	const rescued, busy = "52-54-00-00-00-14", "52-54-00-00-00-15"
	tests := map[string]struct {
		mac, do  string
		platform string
		site     func(*fleet.Site)
		has      []string
		hasNo    []string
		tickets  int
	}{
		"nothing":                                   {mac: unknown, has: []string{"ticket=", "&do=menu"}, tickets: 1},
		"the menu":                                  {mac: unknown, do: "menu", has: []string{"choose", "unknown to the server", "item --key e agent"}, hasNo: []string{"ticket=", "--key s"}},
		"the menu, of a machine with a system":      {mac: active, do: "menu", has: []string{"choose", "pool prd", "active", "the system on its disk"}, hasNo: []string{"item --key e"}},
		"the menu, because the site says so":        {mac: unknown, site: func(s *fleet.Site) { s.Menu = true }, has: []string{"choose"}},
		"the menu, because the subnet says so":      {mac: unknown, site: func(s *fleet.Site) { s.Subnets[0].Menu = true }, has: []string{"choose"}},
		"the menu, because the profile says so":     {mac: ready, site: func(s *fleet.Site) { s.Profiles[0].Menu = true }, has: []string{"choose"}},
		"no menu for those of another profile":      {mac: unknown, site: func(s *fleet.Site) { s.Profiles[0].Menu = true }, hasNo: []string{"choose"}, tickets: 1},
		"to go on, from the menu":                   {mac: unknown, do: "go", site: func(s *fleet.Site) { s.Menu = true }, has: []string{"ticket="}, tickets: 1},
		"the disk":                                  {mac: unknown, do: "local", has: []string{"sanboot"}},
		"the agent":                                 {mac: ready, do: "agent", has: []string{"ticket="}, tickets: 1},
		"the agent, with a system":                  {mac: active, do: "agent", has: []string{"sanboot"}, hasNo: []string{"ticket="}},
		"the memory test":                           {mac: active, do: "memtest", has: []string{"kernel http://127.0.0.1", "/boot/memtest86+x64.bin"}},
		"the memory test, for another firmware":     {mac: active, do: "memtest", platform: "efi", has: []string{"sanboot"}},
		"the memory test, in the menu":              {mac: ready, do: "menu", has: []string{"memtest"}},
		"the rescue system":                         {mac: unknown, do: "rescue", has: []string{"/boot/rescue.img", "provision.rescue=https://"}, hasNo: []string{"ticket="}},
		"the rescue system, in the menu":            {mac: ready, do: "menu", has: []string{"item --key r rescue"}},
		"the rescue system, for another firmware":   {mac: unknown, do: "rescue", platform: "efi&arch=arm64", hasNo: []string{"rescue"}, tickets: 1},
		"the rescue system, with a system":          {mac: active, do: "rescue", has: []string{"sanboot"}, hasNo: []string{"rescue"}},
		"the rescue system, in the menu with one":   {mac: active, do: "menu", hasNo: []string{"key r rescue"}},
		"the rescue system, while a run trusts it":  {mac: busy, do: "rescue", has: []string{"ticket="}, hasNo: []string{"rescue"}, tickets: 1},
		"nothing, where an operator has rescued it": {mac: rescued, has: []string{"/boot/rescue.img", "provision.key=ssh-ed25519:AAAA+/="}, hasNo: []string{"ticket=", "anna"}},
		"the agent, where it is rescued":            {mac: rescued, do: "agent", has: []string{"/boot/rescue.img"}, hasNo: []string{"ticket="}},
		"the disk, where it is rescued":             {mac: rescued, do: "local", has: []string{"sanboot"}},
		"the menu, where it is rescued":             {mac: rescued, do: "menu", has: []string{"boot the rescue system", "in the rescue system since", "was active"}, hasNo: []string{"key e agent"}},
		"the shell":                                 {mac: ready, do: "menu", site: func(s *fleet.Site) { s.IPXEShell = true }, has: []string{"item --key s shell", "\nshell ||"}},
		"anything, in quarantine":                   {mac: quarantined, do: "local", has: []string{"gets nothing"}, hasNo: []string{"sanboot"}},
		"what is not there":                         {mac: active, do: "format", has: []string{"sanboot"}},
		"a script of its pool":                      {mac: ready, site: custom("", "prd"), has: []string{"custom for ready-1", "do=agent"}, hasNo: []string{"ticket="}},
		"a script of its pool, from the menu":       {mac: ready, do: "go", site: custom("", "prd"), has: []string{"custom for"}},
		"a script of its pool, shown in the menu":   {mac: ready, do: "menu", site: custom("", "prd"), has: []string{"Go on: script mine"}},
		"a script by its name":                      {mac: ready, site: custom("ready-1", ""), has: []string{"custom for"}},
		"a script by its MAC, of an unknown one":    {mac: unknown, site: custom("52:54:00:00:00:99", ""), has: []string{"custom for"}},
		"the agent instead of a script of its pool": {mac: ready, do: "agent", site: custom("", "prd"), has: []string{"ticket="}, tickets: 1},
		"no script when it has a system":            {mac: active, site: custom("", "prd"), has: []string{"sanboot"}, hasNo: []string{"custom"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			base, e := serveBoot(t, func(o *Options) {
				writeFile(t, filepath.Join(o.BootDir, "memtest86+x64.bin"), "test")
				writeFile(t, filepath.Join(o.BootDir, "rescue.img"), "ramdisk")
			})
			e.site.Subnets = []fleet.Subnet{{Name: "rack", CIDR: netip.MustParsePrefix("127.0.0.0/8"), Mode: fleet.Proxy}}
			if tt.site != nil {
				tt.site(&e.site)
			}
			e.site.Profiles[0].SSHKey = []string{"ssh-ed25519 AAAA+/= anna"}
			e.nodes = append(e.nodes,
				fleet.Node{ID: "n-0000000014", MAC: "52:54:00:00:00:14", State: fleet.Rescue, Rescue: fleet.Stay{From: fleet.Active}, Pool: "prd", Approved: true},
				fleet.Node{ID: "n-0000000015", MAC: "52:54:00:00:00:15", State: fleet.Ready, Run: "prd-1", Pool: "prd"},
				fleet.Node{ID: "n-0000000011", Name: "ready-1", MAC: "52:54:00:00:00:11", State: fleet.Ready, Pool: "prd", Stage: "prd", Approved: true},
				fleet.Node{ID: "n-0000000013", MAC: "52:54:00:00:00:13", State: fleet.Quarantined, Pool: "prd"})
			res, body := fetch(t, base, "GET", "/boot/ipxe?mac="+tt.mac+"&platform="+tt.platform+"&do="+tt.do)
			if res.StatusCode != 200 || !strings.HasPrefix(body, "#!ipxe\n") {
				t.Fatalf("answer %d %q, want a script", res.StatusCode, body)
			}
			checkScript(t, body, tt.has, tt.hasNo)
			if e.minted != tt.tickets {
				t.Errorf("%d tickets made, want %d", e.minted, tt.tickets)
			}
		})
	}
}

func checkScript(t *testing.T, script string, has, hasNo []string) {
	t.Helper()
	for _, want := range has {
		if !strings.Contains(script, want) {
			t.Errorf("script lacks %q:\n%s", want, script)
		}
	}
	for _, no := range hasNo {
		if strings.Contains(script, no) {
			t.Errorf("script has %q:\n%s", no, script)
		}
	}
}

// custom declares a script for a node or a pool.
func custom(node, pool string) func(*fleet.Site) {
	return func(s *fleet.Site) {
		script := fleet.Script{Name: "mine", IPXE: customText}
		if node != "" {
			script.Nodes = []string{node}
		}
		if pool != "" {
			script.Pools = []fleet.PoolName{fleet.PoolName(pool)}
		}
		s.Scripts = []fleet.Script{script}
	}
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAScriptThatCannotBeFilledInIsSaid(t *testing.T) {
	base, e := serveBoot(t)
	e.site.Scripts = []fleet.Script{{Name: "mine", Nodes: []string{"52:54:00:00:00:99"}, IPXE: "#!ipxe\n{{private \"nothing\"}}\n"}}
	_, body := fetch(t, base, "GET", "/boot/ipxe?mac=52-54-00-00-00-99")
	if !strings.Contains(body, "its script mine cannot be filled in") || strings.Contains(body, "private") {
		t.Errorf("script =\n%s\nwant one that says which script is wrong, and no more", body)
	}
}

func FuzzBootQuery(f *testing.F) {
	for _, query := range capturedURLs(f, pxe.PathScript+"?") {
		f.Add(query)
	}
	for _, s := range []string{
		"mac=52-54-00-12-34-56&uuid=9707b47b-0000-4000-8000-000000000001&platform=efi&arch=arm64&do=menu",
		"mac=52%3A54%3A00%3A12%3A34%3A56", "mac=&mac=52-54-00-12-34-56", "mac=%zz", "&&==&", "do=%0Achain", "mac=${net0/mac}",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		q := readBootQuery(raw)
		if q.MAC != "" {
			if m, err := fleet.ParseMAC(string(q.MAC)); err != nil || m != q.MAC {
				t.Errorf("MAC %q of %q", q.MAC, raw)
			}
		}
		if strings.Contains(dashed(q.MAC), ":") || len(q.Do) > 128 {
			t.Errorf("%q is read as %+v", raw, q)
		}
	})
}
