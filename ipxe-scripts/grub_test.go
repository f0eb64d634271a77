package ipxescripts

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/rackstage/provision/internal/golden"
)

func loadGRUB(tb testing.TB) *GRUB {
	tb.Helper()
	g, err := LoadGRUB()
	if err != nil {
		tb.Fatal(err)
	}
	return g
}

func TestGRUBScriptsAreAsReviewed(t *testing.T) {
	g := loadGRUB(t)
	tests := map[string]func() ([]byte, error){
		"grub": func() ([]byte, error) { return g.First("10.77.0.1:8080", "10.77.0.1", "/boot/grub/") },
		"agent": func() ([]byte, error) {
			return g.Agent(GRUBAgent{
				Agent: Agent{
					Title: "prd-01", Server: "10.77.0.1",
					Kernel: "(http,10.77.0.1)/boot/vmlinuz", Initrd: "(http,10.77.0.1)/boot/initrd.img",
					Args: []string{"provision.server=https://10.77.0.1:8443", "provision.ca=sha256:00ff", "provision.ticket=abc-_DEF"},
				},
				Console: []string{"console=ttyS0,115200", "console=tty0"},
			})
		},
		"local": func() ([]byte, error) {
			return g.Local("prd-01", "(http,10.77.0.1)/boot/grub/x86_64/52:54:00:12:34:56.menu.cfg")
		},
		"rescue": func() ([]byte, error) {
			return g.Rescue(GRUBAgent{
				Agent: Agent{
					Title: "prd-01", Server: "10.77.0.1", Kernel: "(http,10.77.0.1)/boot/vmlinuz", Initrd: "(http,10.77.0.1)/boot/rescue.img",
					Args: []string{"provision.rescue=https://10.77.0.1:8443", "BOOTIF=01-52-54-00-12-34-56"},
				},
				Console: []string{"console=ttyS0,115200", "console=tty0"},
			})
		},
		"media": func() ([]byte, error) {
			return g.Media(GRUBAgent{
				Agent: Agent{
					Title: "52:54:00:12:34:56", Server: "10.77.0.1", Kernel: "/vmlinuz", Initrd: "/initrd.img",
					Args: []string{"provision.server=https://10.77.0.1:8443", "provision.ticket=abc-_DEF"},
				},
				Console: []string{"console=ttyS0,115200", "console=tty0"},
			})
		},
		"menu": func() ([]byte, error) {
			return g.Menu(Menu{
				Title: "prd-01", MAC: "52:54:00:12:34:56", Pool: "prd", State: "ready", Status: "run prd-1: write, 40 %", Next: "Go on: boot the agent",
				URL: "(http,10.77.0.1)/boot/grub/x86_64/52:54:00:12:34:56.", MemTest: "(http,10.77.0.1)/boot/memtest86+x64.efi", Enrol: true, Rescue: true,
			})
		},
		"menu-bare": func() ([]byte, error) {
			return g.Menu(Menu{Title: "x' { reboot }", Status: "$(reboot)", Next: "a\nb"})
		},
		"show": func() ([]byte, error) {
			return g.ShowMenu("(http,10.77.0.1)/boot/grub/x86_64/52:54:00:12:34:56.menu.cfg")
		},
		"memtest": func() ([]byte, error) { return g.MemTest("prd-01", "(http,10.77.0.1)/boot/memtest86+x64.efi") },
		"wait":    func() ([]byte, error) { return g.Wait("prd-01", "quarantined: its identity does not match") },
		"hostile": func() ([]byte, error) {
			return g.Wait("x\nreboot", "'; reboot; ${prefix} $(x) \"y\" \\' {{.}} \x1b[2J")
		},
	}
	for name, render := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := render()
			if err != nil {
				t.Fatal(err)
			}
			golden.Check(t, filepath.Join("testdata", name+".cfg"), string(got))
		})
	}
}

func TestGRUBRefusesWhatItWouldRead(t *testing.T) {
	g := loadGRUB(t)
	for _, arg := range []string{"", "a b", "a;reboot", "a'b", "$x", "a\nb", "a%20b"} {
		if _, err := g.Agent(GRUBAgent{Agent: Agent{Args: []string{arg}}}); err == nil {
			t.Errorf("kernel argument %q was taken", arg)
		}
		if _, err := g.Agent(GRUBAgent{Console: []string{arg}}); err == nil {
			t.Errorf("console argument %q was taken", arg)
		}
	}
	for _, addr := range []string{"a)b", "a'b", "$x", "a b"} {
		if _, err := g.First(addr, "10.0.0.1", "/"); err == nil {
			t.Errorf("address %q was taken", addr)
		}
	}
}

func FuzzNoTextLeavesItsGRUBQuotes(f *testing.F) {
	for _, s := range []string{"prd-01", "'; reboot; '", "x\ny", "${net_default_mac}", "\\'", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := quoted(s).String()
		if len(got) < 2 || got[0] != '\'' || got[len(got)-1] != '\'' || strings.ContainsAny(got[1:len(got)-1], "'\n\r\x00") {
			t.Errorf("quoted(%q) = %s", s, got)
		}
	})
}
