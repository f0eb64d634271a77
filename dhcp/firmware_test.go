package dhcp

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rackstage/provision/fleet"
	ipxescripts "github.com/rackstage/provision/ipxe-scripts"
	"github.com/rackstage/provision/pxe"
	"github.com/rackstage/provision/pxe/tftp"
)

// loadersEnv names the folder with the loaders of package image.
const loadersEnv = "PROVISION_TEST_LOADERS"

// A guest's firmware boots from this server, TFTP and HTTP; the test sees in
// order what it asks for.
func TestRealFirmwareBootsFromUs(t *testing.T) {
	bios := []string{"-machine", "q35,graphics=off", "-m", "192"}
	uefi := []string{"-machine", "q35", "-m", "384"}
	noPXE := []string{"-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=no", "-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=no"}
	tests := map[string]struct {
		qemu  []string
		state fleet.State
		want  []string // in this order, others may come between
		never string
	}{
		"SeaBIOS, a ROM with iPXE, virtio": {
			append(bios, nic("virtio-net-pci")...), "",
			[]string{"dhcp ipxe arch 0", "GET /boot/ipxe", "GET /boot/vmlinuz", "GET /boot/initrd.img"},
			"tftp",
		},
		"SeaBIOS, a ROM with iPXE, e1000": {
			append(bios, nic("e1000")...), "",
			[]string{"dhcp ipxe arch 0", "GET /boot/ipxe", "GET /boot/vmlinuz", "GET /boot/initrd.img"},
			"tftp",
		},
		"OVMF, PXE": {
			append(uefi, nic("virtio-net-pci,romfile=")...), "",
			[]string{"dhcp rom arch 7", "tftp snponly.efi", "tftp autoexec.ipxe", "GET /boot/ipxe", "GET /boot/vmlinuz", "GET /boot/initrd.img"},
			"",
		},
		"OVMF, HTTP boot": {
			slices.Concat(uefi, nic("virtio-net-pci,romfile="), noPXE), "",
			[]string{"dhcp http arch 16", "HEAD /boot/snponly.efi", "GET /boot/snponly.efi", "GET /boot/autoexec.ipxe", "GET /boot/ipxe", "GET /boot/vmlinuz", "GET /boot/initrd.img"},
			"tftp",
		},
		"SeaBIOS, a node with its system": {
			append(bios, nic("virtio-net-pci")...), fleet.Active,
			[]string{"dhcp ipxe arch 0", "GET /boot/ipxe", "serial LOCAL-DISK"},
			"GET /boot/vmlinuz",
		},
		"OVMF, a node with its system": {
			append(uefi, nic("virtio-net-pci,romfile=")...), fleet.Active,
			[]string{"dhcp rom arch 7", "tftp snponly.efi", "GET /boot/ipxe", "dhcp ipxe arch 7"},
			"GET /boot/vmlinuz", // iPXE is what lies on its disk
		},
	}
	if testing.Short() {
		t.Skip("starts six machines in software emulation")
	}
	if !inNamespace(t) {
		return
	}
	loaders := loadersDir(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			firmwareRun(t, loaders, tt.qemu, tt.state, tt.want, tt.never)
		})
	}
}

func loadersDir(t *testing.T) string {
	t.Helper()
	dir := os.Getenv(loadersEnv)
	if dir == "" {
		t.Fatalf("set %s to the folder with the loaders (make test does), or use -short", loadersEnv)
	}
	for _, f := range []string{"snponly.efi", "undionly.kpxe"} {
		if _, err := os.Stat(filepath.Join(dir, f)); err != nil {
			t.Fatalf("%s: %v", loadersEnv, err)
		}
	}
	return dir
}

func nic(model string) []string {
	return []string{"-netdev", "tap,id=n0,ifname=rack0,script=no,downscript=no", "-device", model + ",netdev=n0,mac=" + string(macA) + ",bootindex=1"}
}

// A bootRecord is what was asked for, and when.
type bootRecord struct {
	mu      sync.Mutex
	started time.Time
	lines   []string
	at      []time.Duration
}

func (r *bootRecord) add(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, fmt.Sprintf(format, args...))
	r.at = append(r.at, time.Since(r.started))
}

// Observe implements Observer.
func (r *bootRecord) Observe(ev fleet.Evidence) {
	detail := ev.Detail
	for _, f := range []pxe.Firmware{pxe.ROM, pxe.HTTP, pxe.IPXE} {
		if kind, rest, ok := strings.Cut(detail, " from "+string(f)+" firmware, "); ok {
			arch, rest, _ := strings.Cut(rest, ",")
			r.add("dhcp %s %s: %s,%s", f, arch, kind, rest)
		}
	}
}

// missing returns the first of want that did not come, in order.
func (r *bootRecord) missing(want []string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := 0
	for _, w := range want {
		for i < len(r.lines) && !strings.HasPrefix(r.lines[i], w) {
			i++
		}
		if i == len(r.lines) {
			return w
		}
	}
	return ""
}

func (r *bootRecord) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	for i, l := range r.lines {
		fmt.Fprintf(&b, "%8.2f s  %s\n", r.at[i].Seconds(), l)
	}
	return b.String()
}

func firmwareRun(t *testing.T, loaders string, qemu []string, state fleet.State, want []string, never string) {
	t.Helper()
	run(t, "ip", "tuntap", "add", "rack0", "mode", "tap")
	t.Cleanup(func() { _ = ipHere("link", "del", "rack0") })
	run(t, "ip", "addr", "add", "10.77.0.1/24", "dev", "rack0")
	run(t, "ip", "link", "set", "rack0", "up")
	rec := &bootRecord{started: time.Now()}
	nodes := knownNodes{}
	if state != "" {
		nodes[macA] = fleet.Node{MAC: macA, Name: "prd-01", State: state}
	}
	startServer(t, Options{Subnets: []fleet.Subnet{rackSubnet(fleet.Full)}, Nodes: nodes, Leases: &memoryLeases{}, Observer: rec})
	scripts, err := ipxescripts.Load()
	if err != nil {
		t.Fatal(err)
	}
	serveTFTP(t, loaders, scripts, rec)
	serveHTTP(t, loaders, scripts, nodes, rec)
	serial := power(t, qemu, rec)

	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(2 * time.Minute); rec.missing(want) != "" && rec.missing([]string{"power off"}) != "" && time.Now().Before(end); {
		<-tick.C
		if b, _ := os.ReadFile(serial); bytes.Contains(b, []byte("LOCAL-DISK")) && !strings.Contains(rec.String(), "serial") {
			rec.add("serial LOCAL-DISK")
		}
	}
	t.Logf("since power-on:\n%s", rec)
	if m := rec.missing(want); m != "" {
		b, _ := os.ReadFile(serial)
		t.Errorf("%q never came; the console says:\n%q", m, b[max(0, len(b)-3000):])
	}
	if never != "" && rec.missing([]string{never}) == "" {
		t.Errorf("%q came, and should not have", never)
	}
}

// power starts a machine and returns the file with its console.
func power(t *testing.T, args []string, rec *bootRecord) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "firmware") //nolint:usetesting // QEMU takes the commas of our name for options
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	serial, disk := filepath.Join(dir, "serial"), filepath.Join(dir, "disk")
	isUEFI := slices.ContainsFunc(args, func(s string) bool { return strings.Contains(s, "romfile=") })
	if err := os.WriteFile(disk, localDisk(t, dir, isUEFI), 0o600); err != nil {
		t.Fatal(err)
	}
	all := append([]string{
		"-accel", "tcg,thread=multi", "-cpu", "max", "-display", "none", "-vga", "none", "-nodefaults", "-no-user-config",
		"-serial", "file:" + serial, "-device", "virtio-rng-pci",
		"-drive", "if=none,id=d0,format=raw,file=" + disk, "-device", "virtio-blk-pci,drive=d0,bootindex=2",
	}, args...)
	if isUEFI {
		vars := filepath.Join(dir, "vars")
		copyFile(t, "/usr/share/OVMF/OVMF_VARS_4M.fd", vars)
		all = append(all, "-drive", "if=pflash,unit=0,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd", "-drive", "if=pflash,unit=1,format=raw,file="+vars)
	}
	ctx, off := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", all...) //nolint:gosec // a test
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	rec.mu.Lock()
	rec.started = time.Now()
	rec.mu.Unlock()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		rec.add("power off")
		close(ended)
	}()
	t.Cleanup(func() {
		off()
		<-ended
		if said.Len() > 0 {
			t.Logf("qemu says: %s", said.String())
		}
	})
	return serial
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// localDisk is a disk that can tell that it was started: for a BIOS a boot
// sector that writes to the serial port, for a UEFI the removable-media path
// with iPXE, which asks by DHCP.
func localDisk(t *testing.T, dir string, uefi bool) []byte {
	t.Helper()
	if !uefi {
		sector := make([]byte, 8<<20)
		//   mov si,msg; next: lodsb; test al,al; jz $; mov dx,3f8; out dx,al; jmp next
		copy(sector, "\xbe\x10\x7c\xac\x84\xc0\x74\xfe\xba\xf8\x03\xee\xeb\xf5\x90\x90LOCAL-DISK\r\n\x00")
		sector[510], sector[511] = 0x55, 0xaa
		return sector
	}
	image := filepath.Join(dir, "esp")
	if err := os.WriteFile(image, make([]byte, 8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "mformat", "-i", image, "::")
	run(t, "mmd", "-i", image, "::/EFI", "::/EFI/BOOT")
	run(t, "mcopy", "-i", image, filepath.Join(loadersDir(t), "ipxe.efi"), "::/EFI/BOOT/BOOTX64.EFI")
	b, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func serveTFTP(t *testing.T, loaders string, scripts *ipxescripts.Scripts, rec *bootRecord) {
	t.Helper()
	root, err := os.OpenRoot(loaders)
	if err != nil {
		t.Fatal(err)
	}
	s, err := tftp.New(tftp.Options{
		Open: func(_ context.Context, name string, _ netip.AddrPort) (io.ReadCloser, int64, error) {
			if name == "autoexec.ipxe" {
				b, err := scripts.AutoExec("http://10.77.0.1", pxe.PathScript)
				return io.NopCloser(bytes.NewReader(b)), int64(len(b)), err
			}
			if !slices.Contains(pxe.Loaders(), name) {
				return nil, 0, fs.ErrNotExist
			}
			return tftp.OpenIn(root, name)
		},
		Done: func(tr tftp.Transfer) {
			if !tr.Probed() {
				rec.add("tftp %s: %d bytes in %.2f s, %v", tr.Name, tr.Sent, tr.Duration.Seconds(), tr.Err)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := tftp.Listen(t.Context(), netip.AddrPortFrom(anywhere, tftp.Port))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, conn) }()
	t.Cleanup(func() { stop(); _, _ = <-done, root.Close() })
}

func serveHTTP(t *testing.T, loaders string, scripts *ipxescripts.Scripts, nodes knownNodes, rec *bootRecord) {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc(pxe.PathScript, func(w http.ResponseWriter, r *http.Request) {
		mac, err := fleet.ParseMAC(r.URL.Query().Get("mac"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		b, err := scripts.Local("prd-01", "http://10.77.0.1/boot/ipxe?mac=none")
		if pxe.Decide(pxe.Request{MAC: mac, Firmware: pxe.IPXE}, nodes[mac]).File == pxe.ScriptAgent {
			b, err = scripts.Agent(ipxescripts.Agent{
				Title: string(mac), Server: "10.77.0.1",
				Kernel: "http://10.77.0.1/boot/vmlinuz", Initrd: "http://10.77.0.1/boot/initrd.img", Args: []string{"provision.server=https://10.77.0.1:8443"},
			})
		}
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(b)
	})
	mux.HandleFunc(pxe.PathFiles, func(w http.ResponseWriter, r *http.Request) {
		switch name := filepath.Base(r.URL.Path); name {
		case "autoexec.ipxe":
			b, err := scripts.AutoExec("http://10.77.0.1", pxe.PathScript)
			if err != nil {
				t.Error(err)
			}
			_, _ = w.Write(b)
		case "vmlinuz":
			http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(fakeKernel(t, loaders)))
		case "initrd.img":
			http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(make([]byte, 1<<20)))
		default:
			http.ServeFile(w, r, filepath.Join(loaders, name))
		}
	})
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", "10.77.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec.add("%s %s", r.Method, r.URL)
		mux.ServeHTTP(w, r)
	})}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() { _, _ = srv.Close(), <-done })
}

// fakeKernel is both a UEFI program and a Linux kernel to iPXE, which looks at
// it before it fetches the ramdisk. It is never run to an end.
func fakeKernel(t *testing.T, loaders string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(loaders, "snponly.efi"))
	if err != nil {
		t.Fatal(err)
	}
	b[0x1f1] = 1                                    // setup sectors
	b[0x1fe], b[0x1ff] = 0x55, 0xaa                 // boot sector
	copy(b[0x202:], "HdrS\x04\x02")                 // boot protocol 2.4
	b[0x211] = 1                                    // loaded high
	copy(b[0x22c:], []byte{0xff, 0xff, 0xff, 0x7f}) // the ramdisk may lie anywhere
	return b
}
