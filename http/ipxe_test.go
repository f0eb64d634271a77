package http

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rackstage/provision/fleet"
)

// The test in this file boots a real machine (QEMU with the iPXE ROM of its
// network card) from a server of ours. QEMU's own DHCP names the script.

// A serialLine is the serial line of a machine.
type serialLine struct {
	t     *testing.T
	keys  io.Writer
	lines chan string
}

var paint = regexp.MustCompile("\x1b\\[[0-9;?]*[A-Za-z]|[\r\x00]")

// read sends what the machine says, as often as it says something: prompts
// have no line end.
func (c *serialLine) read(from io.Reader) {
	defer close(c.lines)
	buf := bufio.NewReader(from)
	chunk := make([]byte, 4096)
	for {
		n, err := buf.Read(chunk)
		if err != nil {
			return
		}
		c.lines <- paint.ReplaceAllString(string(chunk[:n]), "")
	}
}

// await waits until the machine has said something, and forgets all before.
// Meanwhile it presses a key again and again, unless that is 0.
func (c *serialLine) await(what string, key byte) {
	c.t.Helper()
	late := time.NewTimer(90 * time.Second)
	defer late.Stop()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	var said strings.Builder
	for {
		select {
		case text, ok := <-c.lines:
			said.WriteString(text)
			if strings.Contains(strings.Join(strings.Fields(said.String()), " "), what) {
				c.t.Logf("the console shows %q", what)
				return
			}
			if !ok {
				c.t.Fatalf("the machine ended before it said %q:\n%s", what, said.String())
			}
		case <-again.C:
			if key != 0 {
				_, _ = c.keys.Write([]byte{key})
			}
		case <-late.C:
			c.t.Fatalf("the machine does not say %q but\n%s", what, said.String())
		}
	}
}

func (c *serialLine) press(key string) { _, _ = io.WriteString(c.keys, key) }

// talkingDisk is a disk whose boot sector says a text and stops.
func talkingDisk(t *testing.T, text string) string {
	t.Helper()
	const at = 0x20
	disk := make([]byte, 1<<20)
	code := []byte{
		0x31, 0xc0, 0x8e, 0xd8, // xor ax,ax; mov ds,ax
		0xbe, 0, 0, // mov si,text
		0xac, 0x84, 0xc0, 0x74, 0x09, // next: lodsb; test al,al; jz end
		0xb4, 0x0e, 0xbb, 0x07, 0x00, 0xcd, 0x10, 0xeb, 0xf2, // mov ah,14; mov bx,7; int 16; jmp next
		0xf4, 0xeb, 0xfd, // end: hlt; jmp end
	}
	binary.LittleEndian.PutUint16(code[5:], 0x7c00+at)
	copy(disk, code)
	copy(disk[at:], text)
	disk[510], disk[511] = 0x55, 0xaa
	name := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(name, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// bootBIOS starts a machine that boots from the network by a URL.
func bootBIOS(t *testing.T, url, mac, disk string) *serialLine {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "tcg", "-M", "q35,graphics=off", "-cpu", "max", "-m", "256",
		"-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot", "-device", "virtio-rng-pci",
		"-netdev", "user,id=n,bootfile="+url, "-device", "virtio-net-pci,netdev=n,mac="+mac+",bootindex=1",
		"-drive", "if=none,id=d,format=raw,file="+disk, "-device", "virtio-blk-pci,drive=d,bootindex=2")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	keys, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &serialLine{t: t, keys: keys, lines: make(chan string, 4096)}
	done := make(chan struct{})
	go func() { defer close(done); c.read(out) }()
	t.Cleanup(func() {
		cancel()
		for range c.lines { // the reader must not wait for us
		}
		<-done
		_ = cmd.Wait()
	})
	return c
}

func TestARealIPXEShowsTheMenuAndRunsACustomScript(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a machine")
	}
	const mac = "52:54:00:00:00:11"
	s, e := newTestServer(t, func(o *Options) {
		if err := os.Truncate(filepath.Join(o.BootDir, "vmlinuz"), 256<<20); err != nil { // long enough to press a key
			t.Fatal(err)
		}
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := netip.MustParseAddrPort(l.Addr().String()).Port()
	s.o.BootPort = port
	e.site.Menu = true
	e.site.Subnets = []fleet.Subnet{{Name: "rack", CIDR: netip.MustParsePrefix("127.0.0.0/8"), Mode: fleet.Proxy, Server: netip.MustParseAddr("10.0.2.2")}}
	e.site.Scripts = []fleet.Script{{Name: "mine", Nodes: []string{"ready-1"}, IPXE: "#!ipxe\necho the script of {{.Name}} in {{.Pool}} by {{.Vendor}}\nchain {{.Local}}\n"}}
	e.nodes = append(e.nodes, fleet.Node{
		ID: "n-0000000011", Name: "ready-1", MAC: mac, State: fleet.Ready, Pool: "prd", Stage: "prd", Approved: true,
		Inventory: fleet.Inventory{Vendor: "${net0/mac} && reboot"},
	})
	run(t, s, Listeners{Boot: []net.Listener{l}})
	url := "http://" + netip.AddrPortFrom(netip.MustParseAddr("10.0.2.2"), port).String() + "/boot/ipxe?mac=52-54-00-00-00-11"
	c := bootBIOS(t, url, mac, talkingDisk(t, "the disk has started\r\n"))
	c.await("provision: ready-1", 0)
	c.await("Switch off", 0)
	c.press("c")
	c.await("the script of ready-1 in prd by %24%7Bnet0/mac%7D %26%26 reboot", 0)
	c.await("Switch off", 'm') // held down while the disk's turn comes: the menu again
	c.press("e")
	c.await("Press m for the menu", 3) // Ctrl-C while the kernel is loaded
	c.await("Switch off", 'm')
	c.press("d")
	c.await("the disk has started", 0)
	var seen []string
	for _, ev := range e.evidence() {
		seen = append(seen, strings.TrimSuffix(ev.Detail, " script from 127.0.0.1"))
	}
	want := []string{"GET menu", "GET custom", "GET script", "GET menu", "GET script", "GET menu", "GET script"}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("scripts that the machine was given (-want +got):\n%s", diff)
	}
}
