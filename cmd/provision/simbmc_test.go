package main

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const simPassword = "Secret123Secret1"

// A simBMC is OpenIPMI's simulator of a BMC, and the serial port of the machine
// that it is in.
type simBMC struct {
	port string // of IPMI

	mu    sync.Mutex
	conn  net.Conn // the BMC's side of the serial port
	typed strings.Builder
}

// startSimBMC starts one whose machine is on.
func startSimBMC(t *testing.T) *simBMC {
	t.Helper()
	s := &simBMC{port: freeUDPPort(t)}
	serial := s.listen(t)
	dir := t.TempDir()
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join("..", "..", "bmc", "testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	conf := strings.NewReplacer("@PORT@", s.port, "@HOOK@", filepath.Join(dir, "hook.sh"), "@DIR@", dir, "@PASSWORD@", simPassword,
		"@LINE@", `sol "tcp:`+serial+`" 115200 history=0`).Replace(read("lan.conf"))
	for name, text := range map[string]string{
		"lan.conf": conf, "commands.emu": read("commands.emu"), "hook.sh": read("hook.sh"), "power": "1\n", "boot": "none\n", "fault": "none\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "ipmi_sim", "-n", "-c", filepath.Join(dir, "lan.conf"), "-f", filepath.Join(dir, "commands.emu"), "-s", t.TempDir())
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v; install it with: apt-get install -y openipmi", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return s
}

func freeUDPPort(t *testing.T) string {
	t.Helper()
	c, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return strconv.Itoa(c.LocalAddr().(*net.UDPAddr).Port)
}

// listen is the machine's end of the serial port, which the BMC connects to.
func (s *simBMC) listen(t *testing.T) (address string) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conn = c
			s.mu.Unlock()
			wg.Go(func() { _, _ = io.Copy(s, c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		s.mu.Lock()
		if s.conn != nil {
			s.conn.Close()
		}
		s.mu.Unlock()
		wg.Wait()
	})
	return l.Addr().String()
}

// Write implements io.Writer: it takes in what the machine is sent.
func (s *simBMC) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.typed.Write(b)
}

// received is what the machine was sent.
func (s *simBMC) received() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.typed.String()
}

// print has the machine write to its serial port; false when nobody reads there.
func (s *simBMC) print(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return false
	}
	_, err := io.WriteString(s.conn, text)
	return err == nil
}
