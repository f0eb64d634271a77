package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const piSite = `
subnets:
- {name: rack, cidr: 10.77.0.0/24, mode: full, ranges: [10.77.0.100-10.77.0.109]}
`

// piFiles are what two Raspberry Pis find: the one of the capture has a folder
// of its own, named by its serial number.
var piFiles = map[string]string{
	"9ffefdef/start4.elf": "start of one", "9ffefdef/config.txt": "arm_64bit=1\nkernel=kernel8.img\n", "9ffefdef/kernel8.img": strings.Repeat("kernel", 100_000),
	"start4.elf": "start of all", "config.txt": "arm_64bit=0\n", "overlays/disable-bt.dtbo": "overlay",
}

// A Raspberry Pi 4 boots from the real program by real packets: its DISCOVER
// and REQUEST (written after its documentation: dhcp/testdata/README.md), and
// then the files that it asks for by TFTP, in its order.
func TestARaspberryPiIsServedFromDISCOVERToItsKernel(t *testing.T) {
	packets := piPackets(t)
	onHost(t, "ip link set lo up\n"+hostWithRack, func() {
		outside := fmt.Sprintf("--net=/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
		stop := serveProgram(t, piSite)
		defer stop()
		onHost(t, "", func() {
			here := fmt.Sprint(unix.Gettid())
			command(t, "nsenter", outside, "ip", "link", "set", "rack0-end", "netns", here)
			command(t, "ip", "link", "set", "rack0-end", "up")
			addr := piAddress(t, packets)
			if addr == "" {
				return
			}
			command(t, "ip", "address", "add", addr+"/24", "dev", "rack0-end")
			for _, f := range []struct{ name, want string }{
				{"9ffefdef/start4.elf", piFiles["9ffefdef/start4.elf"]},
				{"9ffefdef/config.txt", piFiles["9ffefdef/config.txt"]},
				{"9ffefdef/recovery.elf", ""}, // so it goes on without
				{"9ffefdef/kernel8.img", piFiles["9ffefdef/kernel8.img"]},
				{"1a2b3c4d/start4.elf", ""}, // another machine, which has no folder
				{"start4.elf", piFiles["start4.elf"]},
				{"config.txt", piFiles["config.txt"]},
				{"overlays/disable-bt.dtbo", "overlay"},
			} {
				got, err := exec.CommandContext(t.Context(), "curl", "-sS", "--tftp-blksize", "1468", "-m", "20", "tftp://10.77.0.1/"+f.name).Output()
				if string(got) != f.want || (err == nil) != (f.want != "") {
					t.Errorf("%s = %d bytes, %v, want %d", f.name, len(got), err, len(f.want))
				}
			}
		})
	})
}

// serveProgram starts `provision serve` on this thread's network.
func serveProgram(t *testing.T, site string) (stop func()) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range piFiles {
		file := filepath.Join(dir, "state/boot/rpi", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			t.Error(err)
		}
	}
	program, siteFile := filepath.Join(dir, "provision"), filepath.Join(dir, "site.yaml")
	if err := errors.Join(os.Symlink(os.Args[0], program), os.WriteFile(siteFile, []byte(site), 0o600)); err != nil {
		t.Error(err)
	}
	var log bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program, "serve", "--state-dir", filepath.Join(dir, "state"), "--listen-dhcp", "rack0",
		"--listen-socket", filepath.Join(dir, "api.sock"), "--site", siteFile)
	cmd.Stderr, cmd.SysProcAttr = &log, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Error(err)
		return func() {}
	}
	return func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Errorf("the server: %v\n%s", err, log.String())
		}
	}
}

// piPackets are what the capture's machine sends.
func piPackets(t *testing.T) (packets [][]byte) {
	t.Helper()
	raw, err := os.ReadFile("../../dhcp/testdata/rpi4.pcap")
	if err != nil {
		t.Fatal(err)
	}
	const fileHeader, recordHeader, frameHeaders = 24, 16, 14 + 20 + 8
	for b := raw[fileHeader:]; len(b) > recordHeader; {
		n := int(binary.LittleEndian.Uint32(b[8:]))
		packets = append(packets, b[recordHeader+frameHeaders:recordHeader+n])
		b = b[recordHeader+n:]
	}
	if len(packets) != 2 {
		t.Fatalf("the capture has %d packets", len(packets))
	}
	return packets
}

// piAddress does what the boot ROM does before it asks for files, and returns
// its address.
func piAddress(t *testing.T, packets [][]byte) string {
	t.Helper()
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1)
			_ = unix.BindToDevice(int(fd), "rack0-end") // it has no route yet
		})
	}}
	c, err := lc.ListenPacket(t.Context(), "udp4", "0.0.0.0:68")
	if err != nil {
		t.Error(err)
		return ""
	}
	defer func() { _ = c.Close() }()
	offer := exchange(t, c, packets[0])
	if offer == nil {
		t.Error("no offer")
		return ""
	}
	for option, want := range map[byte]string{43: "Raspberry Pi Boot", 60: "PXEClient", 66: "10.77.0.1", 54: "\x0a\x4d\x00\x01"} {
		if !bytes.Contains(optionOf(offer, option), []byte(want)) {
			t.Errorf("option %d of the offer = %q, want %q in it", option, optionOf(offer, option), want)
		}
	}
	const atYour, atServer = 16, 20
	if server := net.IP(offer[atServer : atServer+4]); server.String() != "10.77.0.1" {
		t.Errorf("siaddr = %s", server)
	}
	request := bytes.Clone(packets[1])
	copy(optionOf(request, 50), offer[atYour:atYour+4])
	copy(optionOf(request, 54), optionOf(offer, 54))
	ack := exchange(t, c, request)
	if ack == nil || optionOf(ack, 53)[0] != 5 {
		t.Errorf("answer to the REQUEST = %x, want an ACK", ack)
		return ""
	}
	return net.IP(ack[atYour : atYour+4]).String()
}

// exchange sends a message until it is answered, as firmware does.
func exchange(t *testing.T, c net.PacketConn, message []byte) []byte {
	t.Helper()
	b := make([]byte, 2048)
	for range 30 {
		if _, err := c.WriteTo(message, &net.UDPAddr{IP: net.IPv4bcast, Port: 67}); err != nil {
			t.Error(err)
			return nil
		}
		if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			t.Error(err)
			return nil
		}
		if n, _, err := c.ReadFrom(b); err == nil {
			return bytes.Clone(b[:n])
		}
	}
	return nil
}

// optionOf returns the value of an option where it stands; nil when it is not
// there.
func optionOf(message []byte, code byte) []byte {
	for b := message[240:]; len(b) > 2 && b[0] != 255; {
		if b[0] == 0 {
			b = b[1:]
			continue
		}
		n := int(b[1])
		if b[0] == code {
			return b[2 : 2+n]
		}
		b = b[2+n:]
	}
	return nil
}
