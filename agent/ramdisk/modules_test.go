package ramdisk

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// moduleTree writes the indexes of a small set of modules.
func moduleTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{
		"modules.dep": `kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/fs/mbcache.ko
kernel/fs/jbd2/jbd2.ko:
kernel/fs/mbcache.ko:
kernel/crypto/crc32c_generic.ko:
kernel/drivers/virtio/virtio-pci.ko.xz: kernel/drivers/virtio/virtio.ko
kernel/drivers/virtio/virtio.ko:
kernel/drivers/net/virtio_net.ko: kernel/drivers/virtio/virtio.ko
kernel/a.ko:
kernel/b.ko: kernel/a.ko
kernel/drivers/scsi/sr_mod.ko:
`,
		"modules.alias": `alias fs-ext4 ext4
alias crypto-crc32c crc32c_generic
alias pci:v00001AF4d00001000sv*sd*bc*sc*i* virtio_pci
alias virtio:d00000001v* virtio_net
`,
		"modules.softdep": `# Soft dependencies
softdep ext4 pre: crypto-crc32c
softdep a pre: b
softdep mbcache post: ext4
`,
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// A fakeKernel notes which modules it got. What it is told to show appears
// when a module comes.
type fakeKernel struct {
	mu    sync.Mutex
	got   []string
	shows map[string]func()
}

func (k *fakeKernel) insert(file string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	name := moduleName(file)
	k.got = append(k.got, name)
	if show := k.shows[name]; show != nil {
		show()
	}
	if name == "mbcache" {
		return errors.New("no such device")
	}
	return nil
}

func TestModulesComeAfterWhatTheyNeed(t *testing.T) {
	tests := map[string][]string{
		"fs-ext4":    {"crc32c_generic", "mbcache", "jbd2", "ext4"},
		"virtio-pci": {"virtio", "virtio_pci"},
		"b":          {"a", "b"}, // a wants b, softly: a circle
		"sr_mod":     nil,
		"unheard-of": nil,
	}
	for name, want := range tests {
		t.Run(name, func(t *testing.T) {
			k := &fakeKernel{}
			m, err := openModules(moduleTree(t), k.insert)
			if err != nil {
				t.Fatal(err)
			}
			err = m.Load(name)
			if !slices.Equal(k.got, want) {
				t.Errorf("Load(%q) inserted %v, want %v", name, k.got, want)
			}
			if refused := slices.Contains(want, "mbcache"); (err != nil) != refused {
				t.Errorf("Load(%q) = %v, want an error: %v", name, err, refused)
			}
			if _ = m.Load(name); len(k.got) != len(want) {
				t.Errorf("a second Load inserted again: %v", k.got)
			}
		})
	}
}

func TestColdplugFollowsBusesThatAppear(t *testing.T) {
	sys := t.TempDir()
	device := func(bus, name, alias string) {
		dir := filepath.Join(sys, "bus", bus, "devices", name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Error(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "modalias"), []byte(alias+"\n"), 0o644); err != nil {
			t.Error(err)
		}
	}
	device("pci", "0000:00:03.0", "pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00")
	k := &fakeKernel{shows: map[string]func(){
		"virtio_pci": func() { device("virtio", "virtio0", "virtio:d00000001v00001AF4") },
	}}
	m, err := openModules(moduleTree(t), k.insert)
	if err != nil {
		t.Fatal(err)
	}
	if trouble := m.Coldplug(sys); trouble != nil {
		t.Errorf("Coldplug = %v", trouble)
	}
	want := []string{"virtio", "virtio_pci", "virtio_net"}
	if !slices.Equal(k.got, want) {
		t.Errorf("inserted %v, want %v", k.got, want)
	}
	if m.Loaded() != len(want) {
		t.Errorf("Loaded = %d, want %d", m.Loaded(), len(want))
	}
}

func TestKernelAsksForModulesInItsOwnWords(t *testing.T) {
	if !IsModprobe([]string{"/init", "-q", "--", "fs-ext4"}) {
		t.Error("the kernel's own call is not understood")
	}
	for _, args := range [][]string{{"/init"}, {"provision-agent", "service"}, {"provision-agent", "-q", "x", "y"}} {
		if IsModprobe(args) {
			t.Errorf("%q is taken for the kernel's call", strings.Join(args, " "))
		}
	}
}

func FuzzParseUevent(f *testing.F) {
	f.Add([]byte("add@/devices/pci0000:00/0000:00:03.0/virtio0\x00ACTION=add\x00MODALIAS=virtio:d00000001v00001AF4\x00SEQNUM=1\x00"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		for key := range parseUevent(b) {
			if strings.ContainsAny(key, "=\x00") {
				t.Errorf("key %q", key)
			}
		}
	})
}

func TestUeventsAreRead(t *testing.T) {
	ev := parseUevent([]byte("add@/devices/x\x00ACTION=add\x00DEVPATH=/devices/x\x00MODALIAS=virtio:d00000001v00001AF4\x00EMPTY=\x00junk\x00"))
	if ev["ACTION"] != "add" || ev["MODALIAS"] != "virtio:d00000001v00001AF4" || len(ev) != 4 {
		t.Errorf("parseUevent = %v", ev)
	}
}
