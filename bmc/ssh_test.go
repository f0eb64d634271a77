package bmc_test

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab/redfish"
)

// An sshBMC is the SSH service of a BMC: a shell in which one command leads to
// the console, which writes what is typed back in brackets.
type sshBMC struct {
	addr    string
	key     ssh.Signer
	entry   string // command; "": the console at once
	keysOff bool   // takes passwords by keyboard-interactive only

	password string // "": the one of the BMC's other services
	rounds   int    // of questions when it is interactive, before it says no

	mu      sync.Mutex
	breaks  int
	refused int
	conns   []net.Conn
}

func startSSH(t *testing.T, entry string, interactive bool) *sshBMC {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b := &sshBMC{entry: entry, keysOff: interactive}
	if b.key, err = ssh.NewSignerFromKey(private); err != nil {
		t.Fatal(err)
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.addr = l.Addr().String()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			b.mu.Lock()
			b.conns = append(b.conns, conn)
			b.mu.Unlock()
			wg.Go(func() { b.serve(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		b.hangUp()
		wg.Wait()
	})
	return b
}

func (b *sshBMC) hangUp() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.conns {
		c.Close()
	}
}

func (b *sshBMC) port() int {
	_, port, _ := net.SplitHostPort(b.addr)
	n, _ := strconv.Atoi(port)
	return n
}

func (b *sshBMC) fingerprint() string { return ssh.FingerprintSHA256(b.key.PublicKey()) }

func (b *sshBMC) config() *ssh.ServerConfig {
	right := func(user, password string) (*ssh.Permissions, error) {
		if user == "admin" && password == cmp.Or(b.password, "Secret123Secret1") {
			return nil, nil
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.refused++
		return nil, errors.New("no")
	}
	c := &ssh.ServerConfig{
		KeyboardInteractiveCallback: func(m ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
			for range b.rounds + 1 {
				answers, err := ask("", "", []string{"Password: "}, []bool{false})
				if err != nil || len(answers) != 1 {
					return nil, errors.New("no")
				}
				if p, err := right(m.User(), answers[0]); err == nil {
					return p, nil
				}
			}
			return nil, errors.New("no")
		},
	}
	if !b.keysOff {
		c.PasswordCallback = func(m ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
			return right(m.User(), string(password))
		}
	}
	c.AddHostKey(b.key)
	return c
}

func (b *sshBMC) serve(conn net.Conn) {
	defer conn.Close()
	_, channels, requests, err := ssh.NewServerConn(conn, b.config())
	if err != nil {
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { ssh.DiscardRequests(requests) })
	for offer := range channels {
		ch, reqs, err := offer.Accept()
		if err != nil {
			return
		}
		wg.Go(func() { b.requests(reqs) })
		wg.Go(func() { b.shell(ch) })
	}
}

func (b *sshBMC) requests(reqs <-chan *ssh.Request) {
	for r := range reqs {
		if r.Type == "break" {
			b.mu.Lock()
			b.breaks++
			b.mu.Unlock()
		}
		_ = r.Reply(r.Type == "pty-req" || r.Type == "shell" || r.Type == "break", nil)
	}
}

func (b *sshBMC) shell(ch ssh.Channel) {
	defer ch.Close()
	buf := make([]byte, 256)
	if b.entry != "" {
		_, _ = io.WriteString(ch, "admin-> ")
		var line string
		for !strings.Contains(line, "\r") {
			n, err := ch.Read(buf)
			if err != nil {
				return
			}
			line += string(buf[:n])
		}
		if line != b.entry+"\r" {
			_, _ = io.WriteString(ch, "unknown command\r\n")
			return
		}
	}
	_, _ = io.WriteString(ch, "login: ")
	for {
		n, err := ch.Read(buf)
		if err != nil {
			return
		}
		_, _ = io.WriteString(ch, "["+string(buf[:n])+"]")
	}
}

// webBMC is a BMC with Redfish and SSH, and nothing at the port of IPMI. Its
// service tells the port, and the command when it is told one.
func webBMC(t *testing.T, b *sshBMC, driver fleet.BMCDriver, tells string) bmc.Target {
	t.Helper()
	target, _ := startRedfish(t, redfish.Options{Systems: []redfish.System{{ID: "1", Machine: &redfish.Memory{}, Console: redfish.Console{Port: b.port(), Entry: tells}}}})
	target = probed(t, target)
	closed, _ := strconv.Atoi(freePort(t))
	target.Driver, target.Ports.IPMI = driver, closed
	return target
}

func TestAConsoleIsReachedOverSSHWhereIPMIIsOff(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		driver       fleet.BMCDriver
		entry, tells string
		interactive  bool
	}{
		"after iDRAC's command":              {fleet.DriverDell, "console com2", "", false},
		"after Supermicro's":                 {fleet.DriverSupermicro, "start /system1/sol1", "", true},
		"at once, OpenBMC's":                 {fleet.DriverOpenBMC, "", "", false},
		"after a command that it tells":      {fleet.DriverRedfish, "sol 1", "sol 1", false},
		"after one that differs from others": {fleet.DriverDell, "connect", "connect", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := startSSH(t, tt.entry, tt.interactive)
			target := webBMC(t, b, tt.driver, tt.tells)
			console := openConsole(t, quick(), target, bmc.ConsoleOptions{})
			screen := watch(console)
			until(t, "the machine is seen", func() bool { return strings.HasSuffix(screen.String(), "login: ") })
			if _, err := console.Write([]byte("root\r")); err != nil {
				t.Error(err)
			}
			until(t, "it answers", func() bool { return strings.HasSuffix(screen.String(), "[root\r]") })
			if err := console.Break(); err != nil || b.breaks != 1 {
				t.Errorf("Break = %v, %d breaks came", err, b.breaks)
			}
			if got := console.(interface{ HostKey() string }).HostKey(); got != b.fingerprint() {
				t.Errorf("the host key is told as %s, want %s", got, b.fingerprint())
			}
			console.Close()
			if err := screen.end(t); !errors.Is(err, io.EOF) {
				t.Errorf("a closed console ends with %v", err)
			}
		})
	}
}

func TestAnotherHostKeyGetsNoPassword(t *testing.T) {
	t.Parallel()
	b := startSSH(t, "console com2", false)
	target := webBMC(t, b, fleet.DriverDell, "")
	target.HostKey = "SHA256:anotherone"
	_, err := quick().OpenConsole(t.Context(), target, bmc.ConsoleOptions{})
	if !errors.Is(err, bmc.ErrHostKey) || fleet.CodeOf(err) != "E-SOL-HOST-KEY" || !strings.Contains(err.Error(), b.fingerprint()) {
		t.Errorf("OpenConsole = %v (%s)", err, fleet.CodeOf(err))
	}
	target.HostKey = b.fingerprint()
	openConsole(t, quick(), target, bmc.ConsoleOptions{})
	target.Password = "Wr0ngPassw0rd"
	if _, err := quick().OpenConsole(t.Context(), target, bmc.ConsoleOptions{}); fleet.KindOf(err) != fleet.Denied {
		t.Errorf("a wrong password: %v", err)
	}
}

// There are BMCs whose SSH has users of its own, and some that lock them after three
// wrong passwords.
func TestAPasswordIsTriedOnceOverSSH(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		interactive bool
		rounds      int
	}{
		"which takes it both ways":         {false, 0},
		"which asks for it":                {true, 0},
		"which asks for it again at once":  {true, 2},
		"which asks for it when it is not": {false, 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := startSSH(t, "", tt.interactive)
			b.password, b.rounds = "Another123Other1", tt.rounds
			target := webBMC(t, b, fleet.DriverOpenBMC, "")
			c := quick()
			for i, want := range []int{1, 2, 2} { // the third is not asked any more
				if _, err := c.OpenConsole(t.Context(), target, bmc.ConsoleOptions{}); !errors.Is(err, bmc.ErrLogin) || fleet.CodeOf(err) != fleet.CodeBMCLogin {
					t.Errorf("OpenConsole = %v (%s), want %v", err, fleet.CodeOf(err), bmc.ErrLogin)
				}
				b.mu.Lock()
				got := b.refused
				b.mu.Unlock()
				if got != want {
					t.Errorf("after the console was asked for %d times, %d passwords were refused, want %d", i+1, got, want)
				}
			}
			target.Driver = fleet.DriverRedfish
			if _, err := c.Power(t.Context(), target); err != nil {
				t.Errorf("the services that know it: %v", err)
			}
		})
	}
}

func TestABMCThatHangsUpEndsTheConsole(t *testing.T) {
	t.Parallel()
	b := startSSH(t, "", false)
	screen := watch(openConsole(t, quick(), webBMC(t, b, fleet.DriverOpenBMC, ""), bmc.ConsoleOptions{}))
	until(t, "the machine is seen", func() bool { return screen.String() == "login: " })
	b.hangUp()
	if err := screen.end(t); err == nil || errors.Is(err, io.EOF) || fleet.HintOf(err) == "" {
		t.Errorf("the console ends with %v", err)
	}
}

func TestABMCWithoutAnyConsoleSaysSo(t *testing.T) {
	t.Parallel()
	target, _ := startRedfish(t, redfish.Options{Systems: []redfish.System{{ID: "1", Machine: &redfish.Memory{}}}})
	target = probed(t, target)
	target.Ports.IPMI, _ = strconv.Atoi(freePort(t))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := quick().OpenConsole(ctx, target, bmc.ConsoleOptions{}); fleet.KindOf(err) != fleet.Unreachable || fleet.HintOf(err) == "" {
		t.Errorf("OpenConsole = %v", err)
	}
	target.Driver = fleet.DriverManual
	if _, err := quick().OpenConsole(ctx, target, bmc.ConsoleOptions{}); !errors.Is(err, bmc.ErrUnsupported) {
		t.Errorf("of a machine that people switch: %v", err)
	}
}
