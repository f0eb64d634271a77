package http

import (
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/pxe"
)

func TestGRUBGetsItsScripts(t *testing.T) {
	first := []string{"(http,127.0.0.1)", "(tftp,127.0.0.1)", "/boot/grub/${grub_cpu}/${net_default_mac}.cfg"}
	tests := map[string]struct {
		lease fleet.MAC
		path  string
		has   []string
		hasNo []string
		seen  fleet.MAC
	}{
		"first of all the same for everybody":             {path: "/grub/grub.cfg", has: first, hasNo: []string{"ticket"}},
		"in the folder of Debian's installer":             {path: "/debian-installer/amd64/grub/grub.cfg", has: first},
		"with double slashes":                             {path: "//grub//grub.cfg", has: first},
		"under the name that it tries first":              {path: "/grub/grub.cfg-01-52-54-00-00-00-99", has: first, hasNo: []string{"ticket"}},
		"an unknown machine boots our agent":              {path: "/boot/grub/x86_64/52:54:00:00:00:99.cfg", has: []string{"'(http,127.0.0.1)/boot/vmlinuz'", "'(http,127.0.0.1)/boot/initrd.img'", "'provision.ticket=", "BOOTIF=01-52-54-00-00-00-99'"}, seen: "52:54:00:00:00:99"},
		"on arm64 with the kernel for it":                 {path: "/boot/grub/arm64/52:54:00:00:00:99.cfg", has: []string{"/boot/vmlinuz-arm64'", "/boot/initrd-arm64.img'", "console=ttyAMA0"}, seen: "52:54:00:00:00:99"},
		"an active node boots its disk":                   {path: "/boot/grub/x86_64/52:54:00:00:00:01.cfg", has: []string{"chainloader", "prd-1"}, hasNo: []string{"ticket", "vmlinuz"}, seen: "52:54:00:00:00:01"},
		"who names another machine gets his own":          {lease: "52:54:00:00:00:66", path: "/boot/grub/x86_64/52:54:00:00:00:01.cfg", has: []string{"BOOTIF=01-52-54-00-00-00-66"}, hasNo: []string{"chainloader"}, seen: "52:54:00:00:00:66"},
		"the lease tells who asks when GRUB does not":     {lease: "52:54:00:00:00:01", path: "/boot/grub/x86_64/.cfg", has: []string{"chainloader"}, seen: "52:54:00:00:00:01"},
		"who cannot be told gets nothing":                 {path: "/boot/grub/x86_64/.cfg", has: []string{"no lease"}, hasNo: []string{"vmlinuz", "ticket"}},
		"a MAC that is none gets nothing":                 {path: "/boot/grub/x86_64/';reboot;'.cfg", has: []string{"no lease"}, hasNo: []string{"reboot;"}},
		"what is no script is a file, if there is one":    {path: "/boot/grub/x86_64/vmlinuz"},
		"a list of modules is not there":                  {path: "/grub/x86_64-efi/command.lst"},
		"a list of revocations is not there":              {path: "/boot//revocations.efi"},
		"a loader is found at the root as well":           {path: "/snponly.efi", has: []string{"loader"}},
		"and in whatever folder shim believes it to be":   {path: "/EFI/BOOT//snponly.efi", has: []string{"loader"}},
		"but no other file is":                            {path: "/EFI/BOOT/vmlinuz"},
		"nor a script of a machine under a wrong address": {path: "/other/x86_64/52:54:00:00:00:99.cfg"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			base, e := serveBoot(t, func(o *Options) {
				if tt.lease != "" {
					o.Leases = leaseBook{netip.MustParseAddr("127.0.0.1"): tt.lease}
				}
			})
			res, body := fetch(t, base, "GET", tt.path)
			if want := map[bool]int{true: 404, false: 200}[len(tt.has) == 0]; res.StatusCode != want {
				t.Fatalf("answer %d %q, want %d", res.StatusCode, body, want)
			}
			checkScript(t, body, tt.has, tt.hasNo)
			var seen fleet.MAC
			for _, ev := range e.evidence() {
				if ev.Phase == fleet.PhaseScript {
					seen = ev.MAC
				}
			}
			if seen != tt.seen {
				t.Errorf("evidence of %q, want %q", seen, tt.seen)
			}
		})
	}
}

func TestHEADOfAGRUBScriptSpendsNoTicketAndSaysItsLength(t *testing.T) {
	base, e := serveBoot(t)
	const path = "/boot/grub/x86_64/52:54:00:00:00:99.cfg"
	head, _ := fetch(t, base, "HEAD", path)
	if e.minted != 0 || len(e.evidence()) != 0 {
		t.Errorf("HEAD made %d tickets and %d facts", e.minted, len(e.evidence()))
	}
	_, body := fetch(t, base, "GET", path)
	if int64(len(body)) != head.ContentLength || e.minted != 1 {
		t.Errorf("GET gave %d bytes and %d tickets, HEAD said %d", len(body), e.minted, head.ContentLength)
	}
}

func TestGRUBThatHasOnlyTFTPGetsItsFilesByTFTP(t *testing.T) {
	s, e := newTestServer(t)
	got, err := s.GRUBScript(t.Context(), GRUBRequest{
		Path: "/boot/grub/x86_64/52:54:00:00:00:99.cfg", By: pxe.ByTFTP,
		Addr: netip.MustParseAddr("10.77.0.50"), Server: netip.MustParseAddr("10.77.0.1"),
	})
	if err != nil || !strings.Contains(string(got), "'(tftp,10.77.0.1)/boot/vmlinuz'") || e.minted != 1 {
		t.Errorf("GRUBScript = %s, %v, %d tickets", got, err, e.minted)
	}
	if _, err := s.GRUBScript(t.Context(), GRUBRequest{Path: "/vmlinuz"}); fleet.KindOf(err) != fleet.NotFound {
		t.Errorf("GRUBScript of another file = %v, want not found", err)
	}
}

func TestGRUBTicketsAreLimitedPerAddress(t *testing.T) {
	now := time.Now()
	base, e := serveBoot(t, func(o *Options) { o.Now = func() time.Time { return now } })
	status := 0
	for range strangerBurst + 1 {
		res, _ := fetch(t, base, "GET", "/boot/grub/x86_64/52:54:00:00:00:99.cfg")
		status = res.StatusCode
	}
	if status != 429 || e.minted != strangerBurst {
		t.Errorf("answer %d after %d tickets, want 429 after %d", status, e.minted, strangerBurst)
	}
}

func TestWhatAMachineWithGRUBCanChoose(t *testing.T) {
	const unknown, active, ready = "52:54:00:00:00:99", "52:54:00:00:00:01", "52:54:00:00:00:11"
	own := func(s *fleet.Site) {
		s.Scripts = []fleet.Script{{Name: "mine", Pools: []fleet.PoolName{"prd"}, GRUB: "echo {{.Name}}\nsource {{.Agent}}\n"}}
	}
	tests := map[string]struct {
		path    string
		site    func(*fleet.Site)
		has     []string
		hasNo   []string
		tickets int
	}{
		"the menu, because the site says so":   {path: unknown, site: func(s *fleet.Site) { s.Menu = true }, has: []string{"configfile '(http,127.0.0.1)/boot/grub/x86_64/52:54:00:00:00:99.menu.cfg'"}, hasNo: []string{"menuentry"}},
		"the menu":                             {path: unknown + ".menu", has: []string{"menuentry 'Enrol now", "menuentry 'Rescue", "menuentry 'Memory test", "menuentry 'Boot from the local disk'", "99.go.cfg"}},
		"the menu, of a machine with a system": {path: active + ".menu", has: []string{"Go on: boot the system", "Memory test"}, hasNo: []string{"Enrol", "Rescue"}},
		"to go on, from the menu":              {path: unknown + ".go", site: func(s *fleet.Site) { s.Menu = true }, has: []string{"ticket="}, tickets: 1},
		"the agent, with a system":             {path: active + ".agent", has: []string{"chainloader"}, hasNo: []string{"ticket="}},
		"the rescue system":                    {path: unknown + ".rescue", has: []string{"'(http,127.0.0.1)/boot/rescue.img'", "provision.rescue="}, hasNo: []string{"ticket="}},
		"the rescue system, with a system":     {path: active + ".rescue", has: []string{"chainloader"}, hasNo: []string{"rescue.img"}},
		"the memory test":                      {path: active + ".memtest", has: []string{"chainloader '(http,127.0.0.1)/boot/memtest86+x64.efi'", "$lockdown"}},
		"a script of its pool":                 {path: ready, site: own, has: []string{"echo ready-1\nsource (http,127.0.0.1)/boot/grub/x86_64/52:54:00:00:00:11.agent.cfg"}, hasNo: []string{"ticket="}},
		"a script in the menu":                 {path: ready + ".menu", site: own, has: []string{"'Go on: script mine'"}},
		"ours, when the pool's is for iPXE":    {path: ready, site: custom("", "prd"), has: []string{"ticket="}, tickets: 1},
		"what is not there":                    {path: active + ".format", has: []string{"chainloader"}},
		"more than one choice":                 {path: active + ".menu.menu", has: []string{"chainloader"}, hasNo: []string{"menuentry"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			base, e := serveBoot(t, func(o *Options) {
				writeFile(t, filepath.Join(o.BootDir, "memtest86+x64.efi"), "test")
				writeFile(t, filepath.Join(o.BootDir, "rescue.img"), "ramdisk")
			})
			e.site.Subnets = []fleet.Subnet{{Name: "rack", CIDR: netip.MustParsePrefix("127.0.0.0/8"), Mode: fleet.Proxy}}
			if tt.site != nil {
				tt.site(&e.site)
			}
			e.nodes = append(e.nodes, fleet.Node{ID: "n-0000000011", Name: "ready-1", MAC: "52:54:00:00:00:11", State: fleet.Ready, Pool: "prd", Stage: "prd", Approved: true})
			_, body := fetch(t, base, "GET", "/boot/grub/x86_64/"+tt.path+".cfg")
			checkScript(t, body, tt.has, tt.hasNo)
			if e.minted != tt.tickets {
				t.Errorf("%d tickets made, want %d", e.minted, tt.tickets)
			}
		})
	}
}
