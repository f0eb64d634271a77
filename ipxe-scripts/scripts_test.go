package ipxescripts

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rackstage/provision/internal/golden"
)

func load(tb testing.TB) *Scripts {
	tb.Helper()
	s, err := Load()
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func TestScriptsAreAsReviewed(t *testing.T) {
	s := load(t)
	tests := map[string]func() ([]byte, error){
		"agent": func() ([]byte, error) {
			return s.Agent(Agent{
				Title: "prd-01", Server: "10.77.0.1",
				Menu:   "http://10.77.0.1/boot/ipxe?mac=52-54-00-12-34-56",
				Kernel: "http://10.77.0.1/boot/vmlinuz", Initrd: "http://10.77.0.1/boot/initrd.img",
				Args: []string{
					"provision.server=https://10.77.0.1:8443", "provision.ca=sha256:00ff", "provision.ticket=abc-_DEF",
					"BOOTIF=01-52-54-00-12-34-56",
				},
			})
		},
		"rescue": func() ([]byte, error) {
			return s.Rescue(Agent{
				Title: "prd-01", Server: "10.77.0.1",
				Kernel: "http://10.77.0.1/boot/vmlinuz", Initrd: "http://10.77.0.1/boot/rescue.img",
				Args: []string{"provision.rescue=https://10.77.0.1:8443", "BOOTIF=01-52-54-00-12-34-56", "provision.key=ssh-ed25519:AAAA+/="},
			})
		},
		"agent-bare": func() ([]byte, error) { return s.Agent(Agent{Title: "52:54:00:12:34:56"}) },
		"autoexec":   func() ([]byte, error) { return s.AutoExec("http://10.77.0.1:8080", "/boot/ipxe") },
		"autoexec6":  func() ([]byte, error) { return s.AutoExec("http://[fd77::1]", "/boot/ipxe") },
		"local":      func() ([]byte, error) { return s.Local("prd-01", "http://10.77.0.1/boot/ipxe?mac=52-54-00-12-34-56") },
		"menu": func() ([]byte, error) {
			return s.Menu(Menu{
				Title: "prd-01", MAC: "52:54:00:12:34:56", Pool: "prd", State: "ready", Status: "run prd-1: write, 40 %", Next: "Boot the agent",
				URL: "http://10.77.0.1/boot/ipxe?mac=52-54-00-12-34-56", MemTest: "http://10.77.0.1/boot/memtest86+x64.efi", Enrol: true, Rescue: true, Shell: true,
			}), nil
		},
		"menu-bare": func() ([]byte, error) { return s.Menu(Menu{Title: "52:54:00:12:34:56"}), nil },
		"memtest":   func() ([]byte, error) { return s.MemTest("prd-01", "http://10.77.0.1/boot/memtest86+x64.bin"), nil },
		"wait":      func() ([]byte, error) { return s.Wait("prd-01", "quarantined: its identity does not match") },
		"away":      func() ([]byte, error) { return s.Away("prd-01", "http://10.78.0.1", "/boot/ipxe") },
		"hostile": func() ([]byte, error) {
			return s.Wait("x\nchain http://evil/", "${net0/mac} && reboot || shell ; \"exit\" {{.}}")
		},
	}
	for name, render := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := render()
			if err != nil {
				t.Fatal(err)
			}
			golden.Check(t, filepath.Join("testdata", name+".ipxe"), string(got))
		})
	}
}

func TestEveryScriptEndsInABoundedWay(t *testing.T) {
	names, err := filepath.Glob("*.ipxe")
	if err != nil || len(names) < 4 {
		t.Fatalf("scripts: %q, %v", names, err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(string(b)), "\n")
		if lines[0] != "#!ipxe" {
			t.Errorf("%s: iPXE does not know it as a script", name)
		}
		if last := lines[len(lines)-1]; !strings.HasSuffix(last, "exit 1") {
			t.Errorf("%s ends in %q, want exit 1: firmware goes on only after an error", name, last)
		}
		for _, line := range lines[1:] {
			if strings.HasPrefix(line, "item") && (strings.Contains(line, "||") || strings.Contains(line, "&&") || strings.Contains(line, " #")) {
				t.Errorf("%s: iPXE ends the command in the middle of %q", name, line)
			}
		}
		if strings.Contains(string(b), "goto retry") && !strings.Contains(string(b), "goto give_up") {
			t.Errorf("%s tries for ever", name)
		}
	}
}

func TestAKernelArgumentIsPassedAsItIsOrNotAtAll(t *testing.T) {
	s := load(t)
	for _, bad := range []string{"", "a b", "a\nchain x", "${x}", "a%20b", "x&&y", "||", ";", "a\x00", "ä", `"x"`, "{{.}}", "#x"} {
		if got, err := s.Agent(Agent{Args: []string{bad}}); err == nil {
			t.Errorf("argument %q went into %q", bad, got)
		}
	}
}

// words is how iPXE reads a line: at blanks, whatever the words are.
func words(script []byte) [][]string {
	var lines [][]string
	for line := range strings.Lines(string(script)) {
		lines = append(lines, strings.Fields(line))
	}
	return lines
}

func FuzzNoFactBecomesACommand(f *testing.F) {
	for _, s := range []string{
		"prd-01", "x\nchain http://evil/", "x\r\nchain", "${net0/mac}", "a && b", "||", ";", "a\x00b", "{{.}}", "\u2028", "\"'`\\", "#!ipxe", "$", "%0a",
	} {
		f.Add(s)
	}
	s := load(f)
	f.Fuzz(func(t *testing.T, fact string) {
		plain, err := s.Wait("x", "x")
		if err != nil {
			t.Fatal(err)
		}
		hostile, err := s.Wait(fact, fact)
		if err != nil {
			t.Fatal(err)
		}
		a, err := s.Agent(Agent{Title: fact, Server: fact, Kernel: fact, Initrd: fact})
		if err != nil {
			t.Fatal(err)
		}
		p, h := words(plain), words(hostile)
		if len(p) != len(h) {
			t.Fatalf("%q makes %d lines of %d:\n%s", fact, len(h), len(p), hostile)
		}
		for i := range p {
			if len(h[i]) > 0 && len(p[i]) > 0 && h[i][0] != p[i][0] {
				t.Errorf("%q makes another command: %q", fact, h[i])
			}
		}
		ours := regexp.MustCompile(`\$\{(attempt|uuid|platform|buildarch|do)\}`)
		m := s.Menu(Menu{Title: fact, MAC: fact, Pool: fact, State: fact, Status: fact, Next: fact, URL: fact, MemTest: fact})
		for _, script := range [][]byte{hostile, a, m} {
			if strings.Contains(ours.ReplaceAllString(string(script), ""), "${") {
				t.Errorf("%q becomes a setting in\n%s", fact, script)
			}
		}
		for _, w := range words(appendText(nil, fact)) {
			if slices.ContainsFunc(w, func(s string) bool { return s == "&&" || s == "||" || s == ";" }) {
				t.Errorf("%q ends a command", fact)
			}
		}
		if strings.ContainsAny(Escape(fact), " \t\r\n\v\f\x00${}&|;#\"'`\\<>") {
			t.Errorf("Escape(%q) = %q", fact, Escape(fact))
		}
	})
}

func benchAgent() Agent {
	return Agent{
		Title: "prd-01", Server: "10.77.0.1", Kernel: "http://10.77.0.1/boot/vmlinuz", Initrd: "http://10.77.0.1/boot/initrd.img",
		Menu: "http://10.77.0.1/boot/ipxe?mac=52-54-00-12-34-56",
		Args: []string{
			"provision.server=https://10.77.0.1:8443", "provision.ca=sha256:00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff",
			"provision.ticket=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "BOOTIF=01-52-54-00-12-34-56",
		},
	}
}

func TestFillingInAScriptTakesNoMemory(t *testing.T) {
	s, a, buf := load(t), benchAgent(), make([]byte, 0, 4096)
	allocs := testing.AllocsPerRun(100, func() {
		if _, err := s.AppendAgent(buf, a); err != nil {
			t.Error(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations for a script, want none", allocs)
	}
}

func BenchmarkAgentScript(b *testing.B) {
	s, a, buf := load(b), benchAgent(), make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.AppendAgent(buf, a); err != nil {
			b.Fatal(err)
		}
	}
}

func TestWhatAScriptCannotDoIsAnErrorWhenItIsRead(t *testing.T) {
	for name, text := range map[string]string{
		"an unknown fact":      "{{.Secret}}",
		"a function":           "{{printf .Title}}",
		"a variable":           "{{$x := .Title}}{{$x}}",
		"an unknown condition": "{{if .Title}}x{{end}}",
		"an else":              "{{if .Shell}}x{{else}}y{{end}}",
		"another list":         "{{range .Pools}} {{.}}{{end}}",
		"more in a list":       "{{range .Args}} {{.}} {{.}}{{end}}",
		"a template":           "{{template \"x\"}}",
		"no end":               "{{if .Shell}}",
	} {
		t.Run(name, func(t *testing.T) {
			if s, err := compile("x.ipxe", text); err == nil {
				t.Errorf("compile = %q", s.append(nil, &facts{}))
			}
		})
	}
}
