package ramdisk

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Modules loads kernel modules from /lib/modules/VERSION, as depmod indexed
// them. Several goroutines may load at once.
type Modules struct {
	dir     string
	aliases aliasIndex
	files   map[string]moduleFile // by name with underscores

	soft   map[string][]string // names or aliases
	insert func(file string) error

	mu    sync.Mutex
	state map[string]*loading
}

type moduleFile struct {
	path  string
	needs []string // names; the last has to be loaded first
}

type loading struct {
	once sync.Once
	err  error
}

// OpenModules reads the indexes of the running kernel's modules.
func OpenModules() (*Modules, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return nil, fmt.Errorf("ask kernel version: %w", err)
	}
	return openModules("/lib/modules/"+unix.ByteSliceToString(u.Release[:]), insertModule)
}

func openModules(dir string, insert func(string) error) (*Modules, error) {
	m := &Modules{dir: dir, state: map[string]*loading{}, insert: insert}
	aliases, err := os.Open(filepath.Join(dir, "modules.alias"))
	if err != nil {
		return nil, fmt.Errorf("read modules: %w", err)
	}
	defer aliases.Close() // read only
	if m.aliases, err = readAliases(aliases); err != nil {
		return nil, fmt.Errorf("read modules: %w", err)
	}
	if m.files, err = readDeps(filepath.Join(dir, "modules.dep")); err != nil {
		return nil, fmt.Errorf("read modules: %w", err)
	}
	if m.soft, err = readSoft(filepath.Join(dir, "modules.softdep")); err != nil {
		return nil, fmt.Errorf("read modules: %w", err)
	}
	return m, nil
}

// readSoft reads the first half of modules.softdep: what a module asks for
// while it works, by name or alias: "softdep ext4 pre: crypto-crc32c". The
// other half ("post:") is about modules that we load anyway. It may lack.
func readSoft(name string) (map[string][]string, error) {
	b, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	soft := map[string][]string{}
	for line := range strings.SplitSeq(string(b), "\n") {
		line, _, _ = strings.Cut(line, " post:")
		head, pre, _ := strings.Cut(line, " pre:")
		if module, ok := strings.CutPrefix(head, "softdep "); ok {
			soft[moduleName(module)] = strings.Fields(pre)
		}
	}
	return soft, nil
}

// readDeps reads modules.dep: "file: files that it needs".
func readDeps(name string) (map[string]moduleFile, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() // read only
	files := map[string]moduleFile{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		path, rest, ok := strings.Cut(lines.Text(), ":")
		if !ok {
			continue
		}
		m := moduleFile{path: path}
		for need := range strings.FieldsSeq(rest) {
			m.needs = append(m.needs, moduleName(need))
		}
		files[moduleName(path)] = m
	}
	return files, lines.Err()
}

// moduleName turns a file or a name into the kernel's own name of the module.
func moduleName(path string) string {
	name, _, _ := strings.Cut(filepath.Base(path), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// Load loads a module by name or alias with all that it needs. A name that
// nobody knows is built into the kernel, or not wanted here.
func (m *Modules) Load(name string) error {
	var trouble []error
	for _, n := range m.order(name) {
		// A need that fails shows in the failure of what needs it.
		if err := m.load(n); err != nil {
			trouble = append(trouble, err)
		}
	}
	return errors.Join(trouble...)
}

// order returns everything that has to be loaded for a name or alias, in
// that order. Soft dependencies may go in circles.
func (m *Modules) order(name string) []string {
	var out []string
	seen := map[string]bool{}
	var visit func(name string)
	resolve := func(name string) {
		if _, ok := m.files[moduleName(name)]; ok {
			visit(moduleName(name))
			return
		}
		for _, n := range m.aliases.find(name) {
			visit(moduleName(n))
		}
	}
	visit = func(name string) {
		file, ok := m.files[name]
		if !ok || seen[name] || slices.Contains(unwanted, name) {
			return
		}
		seen[name] = true
		for _, n := range m.soft[name] {
			resolve(n)
		}
		for _, n := range slices.Backward(file.needs) {
			visit(n)
		}
		out = append(out, name)
	}
	resolve(name)
	return out
}

// unwanted are drivers of what is never installed on and takes long to look
// at: optical drives and floppies, those of BMCs among them.
var unwanted = []string{"sr_mod", "cdrom", "floppy"}

// load loads one module, once, whoever asks for it at the same time.
func (m *Modules) load(name string) error {
	m.mu.Lock()
	l := m.state[name]
	if l == nil {
		l = &loading{}
		m.state[name] = l
	}
	m.mu.Unlock()
	l.once.Do(func() {
		if err := m.insert(filepath.Join(m.dir, m.files[name].path)); err != nil {
			l.err = fmt.Errorf("load module %s: %w", name, err)
		}
	})
	return l.err
}

// Loaded counts the modules that were asked for.
func (m *Modules) Loaded() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.state)
}

// atOnce is how many modules are loaded side by side: most of the time they
// wait for hardware.
const atOnce = 8

// Coldplug loads the modules of all devices that the kernel has found, and of
// those that appear on new buses, until nothing new comes. The kernel returns
// from loading a module when its devices were probed, so that all disks are
// there afterwards.
func (m *Modules) Coldplug(sys string) []error {
	var mu sync.Mutex
	var trouble []error
	seen := map[string]bool{}
	for range 8 { // a disk behind a bridge behind a bridge needs three
		var g errgroup.Group
		g.SetLimit(atOnce)
		fresh := 0
		for _, alias := range modaliases(sys) {
			if seen[alias] {
				continue
			}
			seen[alias] = true
			fresh++
			g.Go(func() error {
				if err := m.Load(alias); err != nil {
					mu.Lock()
					defer mu.Unlock()
					trouble = append(trouble, err)
				}
				return nil
			})
		}
		_ = g.Wait() // none of them returns an error
		if fresh == 0 {
			break
		}
	}
	return trouble
}

// modaliases lists what the kernel calls its devices, network first: hello
// waits for the network longer than for anything else.
func modaliases(sys string) []string {
	var first, rest []string
	buses, _ := os.ReadDir(sys + "/bus")
	for _, bus := range buses {
		dir := sys + "/bus/" + bus.Name() + "/devices"
		devices, _ := os.ReadDir(dir)
		for _, d := range devices {
			b, err := os.ReadFile(dir + "/" + d.Name() + "/modalias")
			alias := strings.TrimSpace(string(b))
			switch {
			case err != nil || alias == "":
			case strings.HasPrefix(alias, "virtio:") || strings.Contains(alias, "bc02sc") || strings.HasPrefix(alias, "pci:v00001AF4"):
				first = append(first, alias) // PCI class 02 is network; virtio says so later
			default:
				rest = append(rest, alias)
			}
		}
	}
	return append(first, rest...)
}

// insertModule hands a file to the kernel, which unpacks it where it has to.
func insertModule(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close() // read only
	flags := 0
	if !strings.HasSuffix(file, ".ko") {
		flags = unix.MODULE_INIT_COMPRESSED_FILE
	}
	err = unix.FinitModule(int(f.Fd()), "", flags)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// Modprobe is what the kernel runs when it wants a module by itself:
// "/init -q -- crypto-crc32c".
func Modprobe(args []string) error {
	m, err := OpenModules()
	if err != nil {
		return err
	}
	return m.Load(args[len(args)-1])
}

// IsModprobe reports whether the kernel started us in place of modprobe.
func IsModprobe(args []string) bool {
	return len(args) == 4 && args[1] == "-q" && args[2] == "--"
}

// ServeModprobe makes the kernel ask this program for modules.
func ServeModprobe(program string) error {
	return os.WriteFile("/proc/sys/kernel/modprobe", []byte(program), 0o644)
}
