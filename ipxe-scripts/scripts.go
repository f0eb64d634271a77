package ipxescripts

import (
	"embed"
	"fmt"
	"io/fs"
	"strings"
	"sync"
)

//go:embed *.ipxe
var files embed.FS

// Scripts are the scripts, read and taken apart once.
type Scripts struct {
	agent, rescue, autoexec, autoexec6, local, wait, away, menu, memtest script

	spare sync.Pool // of *facts, for the scripts that most machines get
}

// Load reads the scripts. It fails only when one of them is wrong.
func Load() (*Scripts, error) {
	s := Scripts{spare: sync.Pool{New: func() any { return new(facts) }}}
	for name, into := range map[string]*script{
		"agent.ipxe": &s.agent, "rescue.ipxe": &s.rescue, "autoexec.ipxe": &s.autoexec, "autoexec6.ipxe": &s.autoexec6, "local.ipxe": &s.local,
		"wait.ipxe": &s.wait, "away.ipxe": &s.away, "menu.ipxe": &s.menu, "memtest.ipxe": &s.memtest,
	} {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("read iPXE scripts: %w", err)
		}
		if *into, err = compile(name, string(text)); err != nil {
			return nil, fmt.Errorf("read iPXE scripts: %w", err)
		}
	}
	return &s, nil
}

// Agent is what a machine needs to boot the agent's ramdisk.
type Agent struct {
	Title  string   // what people call the machine
	Server string   // our address, for people
	Kernel string   // URL
	Initrd string   // URL
	Menu   string   // URL of the menu, for whoever presses Ctrl-C
	Args   []string // kernel arguments beside those of every boot, each "key" or "key=value"
}

// Agent returns the script that boots the ramdisk. An argument that has to be
// escaped is an error: the kernel would not undo it.
func (s *Scripts) Agent(a Agent) ([]byte, error) { return s.AppendAgent(nil, a) }

// AppendAgent puts that script behind dst.
func (s *Scripts) AppendAgent(dst []byte, a Agent) ([]byte, error) { return s.ramdisk(dst, s.agent, a) }

// Rescue returns the script that boots the ramdisk with a shell.
func (s *Scripts) Rescue(a Agent) ([]byte, error) { return s.ramdisk(nil, s.rescue, a) }

func (s *Scripts) ramdisk(dst []byte, script script, a Agent) ([]byte, error) {
	for _, arg := range a.Args {
		if !plainArg(arg) {
			return nil, fmt.Errorf("kernel argument %q has characters that cannot be passed on", arg)
		}
	}
	f := s.spare.Get().(*facts)
	defer s.spare.Put(f)
	*f = facts{title: a.Title, server: a.Server, kernel: a.Kernel, initrd: a.Initrd, args: a.Args, menu: Menu{URL: a.Menu}}
	return script.append(dst, f), nil
}

// AutoExec returns the script that iPXE asks for first. base is the URL of the
// boot listener as the machine sees it, path that of the machines' scripts.
func (s *Scripts) AutoExec(base, path string) ([]byte, error) {
	if strings.HasPrefix(base, "http://[") {
		return s.autoexec6.append(nil, &facts{base: base, path: path}), nil
	}
	return s.autoexec.append(nil, &facts{base: base, path: path}), nil
}

// Local returns the script that boots from disk; menu is the URL of the menu.
func (s *Scripts) Local(title, menu string) ([]byte, error) {
	return s.AppendLocal(nil, title, menu), nil
}

// AppendLocal puts that script behind dst.
func (s *Scripts) AppendLocal(dst []byte, title, menu string) []byte {
	f := s.spare.Get().(*facts)
	defer s.spare.Put(f)
	*f = facts{title: title, menu: Menu{URL: menu}}
	return s.local.append(dst, f)
}

// Wait returns the script that says why there is nothing to boot.
func (s *Scripts) Wait(title, reason string) ([]byte, error) {
	return s.wait.append(nil, &facts{title: title, reason: reason}), nil
}

// Away returns the script of a machine that waits for a server which is away.
// base and path are those of AutoExec.
func (s *Scripts) Away(title, base, path string) ([]byte, error) {
	return s.away.append(nil, &facts{title: title, base: base, path: path}), nil
}

// A Menu is what a machine's menu shows and offers.
type Menu struct {
	Title, MAC string
	Pool       string
	State      string
	Status     string // what its run does with it now
	Next       string // what happens when nobody chooses, for people
	URL        string // of this machine's script: "&do=" and a choice follow
	MemTest    string // URL of the memory test for this firmware; "": not offered
	Enrol      bool   // it may say hello
	Rescue     bool   // it may boot the rescue system
	Shell      bool   // iPXE's own shell is offered
}

// Menu returns the menu.
func (s *Scripts) Menu(m Menu) []byte { return s.menu.append(nil, &facts{title: m.Title, menu: m}) }

// MemTest returns the script that starts the memory test at a URL.
func (s *Scripts) MemTest(title, url string) []byte {
	return s.memtest.append(nil, &facts{title: title, menu: Menu{MemTest: url}})
}

// Names returns the names of the scripts that machines can be given, for
// people.
func Names() []string {
	var names []string
	for _, pattern := range []struct {
		from embed.FS
		glob string
	}{{files, "*.ipxe"}, {grubFiles, "*.cfg"}} {
		found, _ := fs.Glob(pattern.from, pattern.glob)
		names = append(names, found...)
	}
	return names
}
