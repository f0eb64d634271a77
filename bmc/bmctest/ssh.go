package bmctest

import (
	"cmp"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/ssh"
)

// SSHOptions say what an SSH service of a BMC is like. The zero value leads
// admin to the console at once, for [Password].
type SSHOptions struct {
	Command     string // that leads from a shell to the console; "": there is no shell
	Interactive bool   // takes passwords by keyboard-interactive only
	Rounds      int    // more of them, in which it asks again at once
	Password    string // of admin, where it is another one
	Right       func(user, password string) bool
}

// An SSH is the SSH service of a BMC: who signs in gets to the serial port of
// its machine.
type SSH struct {
	Line
	o       SSHOptions
	key     ssh.Signer
	door    *door
	breaks  atomic.Int64
	refused atomic.Int64
}

// StartSSH starts one until the test ends.
func StartSSH(t *testing.T, o SSHOptions) *SSH {
	t.Helper()
	if o.Right == nil {
		want := cmp.Or(o.Password, Password)
		o.Right = func(user, password string) bool { return user == Username && password == want }
	}
	s := &SSH{o: o}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if s.key, err = ssh.NewSignerFromKey(private); err != nil {
		t.Fatal(err)
	}
	s.door = listen(t, s.serve)
	return s
}

// Port is the one that it listens on.
func (s *SSH) Port() int {
	_, port, _ := net.SplitHostPort(s.door.addr) // it is one
	n, _ := strconv.Atoi(port)
	return n
}

// Command is what leads to the console; "" where there is no shell.
func (s *SSH) Command() string { return s.o.Command }

// Fingerprint is that of its host key.
func (s *SSH) Fingerprint() string { return ssh.FingerprintSHA256(s.key.PublicKey()) }

// Breaks is how many have come.
func (s *SSH) Breaks() int { return int(s.breaks.Load()) }

// Refused is how many passwords were wrong.
func (s *SSH) Refused() int { return int(s.refused.Load()) }

// HangUp ends the connections that there are.
func (s *SSH) HangUp() { s.door.hangUp() }

func (s *SSH) config() *ssh.ServerConfig {
	right := func(user, password string) error {
		if !s.o.Right(user, password) {
			s.refused.Add(1)
			return errors.New("no")
		}
		return nil
	}
	c := &ssh.ServerConfig{
		KeyboardInteractiveCallback: func(m ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
			for range 1 + s.o.Rounds {
				answers, err := ask("", "", []string{"Password: "}, []bool{false})
				if err != nil || len(answers) != 1 {
					break
				}
				if right(m.User(), answers[0]) == nil {
					return nil, nil
				}
			}
			return nil, errors.New("no")
		},
	}
	if !s.o.Interactive {
		c.PasswordCallback = func(m ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
			return nil, right(m.User(), string(password))
		}
	}
	c.AddHostKey(s.key)
	return c
}

func (s *SSH) serve(conn net.Conn) {
	_, channels, requests, err := ssh.NewServerConn(conn, s.config())
	if err != nil {
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { ssh.DiscardRequests(requests) })
	for offer := range channels {
		line, asks, err := offer.Accept()
		if err != nil {
			return
		}
		wg.Go(func() { s.answer(asks) })
		wg.Go(func() {
			defer line.Close()
			if s.o.Command == "" || s.shell(line) {
				s.connect(line)
			}
		})
	}
}

func (s *SSH) answer(asks <-chan *ssh.Request) {
	for r := range asks {
		if r.Type == "break" {
			s.breaks.Add(1)
		}
		_ = r.Reply(r.Type == "pty-req" || r.Type == "shell" || r.Type == "break", nil)
	}
}

// shell reports whether somebody gave the command that leads to the console.
func (s *SSH) shell(line io.ReadWriter) bool {
	_, _ = io.WriteString(line, "admin-> ")
	var typed string
	buf := make([]byte, 256)
	for !strings.Contains(typed, "\r") {
		n, err := line.Read(buf)
		if err != nil {
			return false
		}
		typed += string(buf[:n])
	}
	if typed != s.o.Command+"\r" {
		_, _ = io.WriteString(line, "unknown command\r\n")
		return false
	}
	return true
}
