package ipxescripts

import (
	"bytes"
	"embed"
	"fmt"
	"strings"
	"text/template"
)

//go:embed *.cfg
var grubFiles embed.FS

// GRUB is the scripts in the language of GRUB, read once.
type GRUB struct{ t *template.Template }

// LoadGRUB reads the scripts. It fails only when one of them is wrong.
func LoadGRUB() (*GRUB, error) {
	t, err := template.New("").Option("missingkey=error").ParseFS(grubFiles, "*.cfg")
	if err != nil {
		return nil, fmt.Errorf("read GRUB scripts: %w", err)
	}
	return &GRUB{t}, nil
}

// First returns what GRUB asks for first. http and tftp are the address of
// either server (host or host:port). The scripts of machines are below path,
// as "x86_64/52:54:00:12:34:56.cfg".
func (g *GRUB) First(http, tftp, path string) ([]byte, error) {
	for _, s := range []string{http, tftp, path} {
		if Escape(s) != s || strings.ContainsAny(s, "()%") {
			return nil, fmt.Errorf("address %q cannot be written in a GRUB script", s)
		}
	}
	return g.render("grub.cfg", map[string]string{"HTTP": http, "TFTP": tftp, "Path": path})
}

// A GRUBAgent is what a machine needs to boot the agent's ramdisk.
type GRUBAgent struct {
	Agent            // Kernel and Initrd are GRUB's names of files: "(http,10.0.0.1)/boot/vmlinuz"
	Console []string // kernel arguments that name its consoles
}

// Agent returns the script that boots the ramdisk. Arguments are what iPXE
// takes too: nothing in them has a meaning to GRUB or to the kernel.
func (g *GRUB) Agent(a GRUBAgent) ([]byte, error) { return g.ramdisk("agent.cfg", a) }

// Rescue returns the script that boots the ramdisk with a shell.
func (g *GRUB) Rescue(a GRUBAgent) ([]byte, error) { return g.ramdisk("rescue.cfg", a) }

// Media returns the script of a CD image, whose files Kernel and Initrd are.
func (g *GRUB) Media(a GRUBAgent) ([]byte, error) { return g.ramdisk("media.cfg", a) }

func (g *GRUB) ramdisk(script string, a GRUBAgent) ([]byte, error) {
	args, err := plainArgs(a.Args)
	if err != nil {
		return nil, err
	}
	consoles, err := plainArgs(a.Console)
	if err != nil {
		return nil, err
	}
	return g.render(script, map[string]any{
		"Title": label(a.Title), "Server": quoted(a.Server), "Kernel": quoted(a.Kernel), "Initrd": quoted(a.Initrd),
		"Console": consoles, "Args": args, "Menu": quoted(a.Menu),
	})
}

// Local returns the script that boots from disk; menu is GRUB's name of the menu.
func (g *GRUB) Local(title, menu string) ([]byte, error) {
	return g.render("local.cfg", map[string]any{"Title": label(title), "Menu": quoted(menu)})
}

// Menu returns the menu. URL and MemTest are names of files as GRUB has them:
// a choice and ".cfg" follow URL. GRUB has no shell to offer: whoever presses c
// in a menu of GRUB's has its command line, which Secure Boot keeps in bounds.
func (g *GRUB) Menu(m Menu) ([]byte, error) {
	about := strings.Join([]string{m.Title, m.MAC, "pool " + m.Pool, m.State + ":", m.Status}, "  ")
	entry := func(do string) quoted { return quoted(m.URL + do + ".cfg") }
	return g.render("menu.cfg", map[string]any{
		"About": label(about), "Next": plain(m.Next), "Menu": entry("menu"), "Go": entry("go"), "Local": entry("local"),
		"Agent": entry("agent"), "Rescue": entry("rescue"), "MemTest": entry("memtest"),
		"Enrols": m.Enrol, "Rescues": m.Rescue, "Tests": m.MemTest != "",
	})
}

// ShowMenu returns the script that leads to the menu.
func (g *GRUB) ShowMenu(menu string) ([]byte, error) {
	return g.render("show.cfg", map[string]any{"Menu": quoted(menu)})
}

// MemTest returns the script that starts the memory test, which is a file of
// GRUB's.
func (g *GRUB) MemTest(title, file string) ([]byte, error) {
	return g.render("memtest.cfg", map[string]any{"Title": label(title), "File": quoted(file)})
}

// Wait returns the script that says why there is nothing to boot.
func (g *GRUB) Wait(title, reason string) ([]byte, error) {
	return g.render("wait.cfg", map[string]any{"Title": label(title), "Reason": label(reason)})
}

func (g *GRUB) render(name string, data any) ([]byte, error) {
	var b bytes.Buffer
	if err := g.t.ExecuteTemplate(&b, name, data); err != nil {
		return nil, fmt.Errorf("fill in %s: %w", name, err)
	}
	return b.Bytes(), nil
}

func plainArgs(args []string) ([]quoted, error) {
	out := make([]quoted, len(args))
	for i, arg := range args {
		if arg == "" || Escape(arg) != arg || strings.ContainsRune(arg, '%') {
			return nil, fmt.Errorf("kernel argument %q has characters that cannot be passed on", arg)
		}
		out[i] = quoted(arg)
	}
	return out, nil
}

// A quoted text stands between single quotes wherever it is printed: GRUB
// looks for nothing but the closing quote there. Quotes and control
// characters, which would end it or the line, are left out.
type quoted string

// String implements fmt.Stringer, which text/template asks.
func (q quoted) String() string {
	return "'" + strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\'' {
			return -1
		}
		return r
	}, string(q)) + "'"
}

// label is a line for people.
func label(s string) quoted { return "provision: " + plain(s) }

// plain is one without our name.
func plain(s string) quoted { return quoted(strings.Join(strings.Fields(s), " ")) }
