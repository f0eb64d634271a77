package main

import (
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rackstage/provision/bmc"
)

const simPassword = "Secret123Secret1"

// A simBMC is OpenIPMI's simulator of a BMC, and the serial port of the machine
// that it is in.
type simBMC struct {
	port   string // of IPMI
	serial string // address of the machine's end of the serial port
	cmd    *exec.Cmd

	mu    sync.Mutex
	conn  net.Conn // the BMC's side of the serial port
	typed strings.Builder
}

// startSimBMC starts one whose machine is on, and whose user admin has a password
// of 16 bytes.
func startSimBMC(t *testing.T, password string) *simBMC {
	t.Helper()
	s := &simBMC{port: freeUDPPort(t)}
	s.serial = s.listen(t)
	t.Cleanup(s.end)
	s.begin(t, password)
	return s
}

// begin starts it, anew after end, and returns when it answers.
func (s *simBMC) begin(t *testing.T, password string) {
	t.Helper()
	dir := t.TempDir()
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join("..", "..", "bmc", "testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	conf := strings.NewReplacer("@PORT@", s.port, "@HOOK@", filepath.Join(dir, "hook.sh"), "@DIR@", dir, "@PASSWORD@", password,
		"@LINE@", `sol "tcp:`+s.serial+`" 115200 history=0`).Replace(read("lan.conf"))
	for name, text := range map[string]string{
		"lan.conf": conf, "commands.emu": read("commands.emu"), "hook.sh": read("hook.sh"), "power": "1\n", "boot": "none\n", "fault": "none\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.cmd = exec.CommandContext(t.Context(), "ipmi_sim", "-n", "-c", filepath.Join(dir, "lan.conf"), "-f", filepath.Join(dir, "commands.emu"), "-s", t.TempDir())
	if err := s.cmd.Start(); err != nil {
		t.Fatalf("%v; install it with: apt-get install -y openipmi", err)
	}
	target := bmc.Target{Address: "127.0.0.1:" + s.port, Username: "admin", Password: bmc.Password(password), CipherSuite: 3}
	until(t, 10*time.Second, "ipmi_sim answers", func(ctx context.Context) (bool, error) {
		_, err := bmc.New(bmc.Options{}).Power(ctx, target)
		return true, err
	})
}

// end is a BMC without current.
func (s *simBMC) end() {
	if s.cmd != nil && s.cmd.Process != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	}
	s.cmd = nil
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
