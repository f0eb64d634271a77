package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
)

// A simSSH is the SSH service of a BMC: who signs in is at the serial port of its
// machine.
type simSSH struct {
	port int
	conf *ssh.ServerConfig

	mu    sync.Mutex
	conns []net.Conn
	line  ssh.Channel // of who came last
	typed strings.Builder
}

// startSimSSH starts one that asks which passwords are right.
func startSimSSH(t *testing.T, right func(password string) bool) *simSSH {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	s := &simSSH{conf: &ssh.ServerConfig{PasswordCallback: func(_ ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
		if !right(string(password)) {
			return nil, errors.New("no")
		}
		return nil, nil
	}}}
	s.conf.AddHostKey(key)
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.port = l.Addr().(*net.TCPAddr).Port
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, conn)
			s.mu.Unlock()
			wg.Go(func() { s.serve(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		s.mu.Lock()
		for _, c := range s.conns {
			c.Close()
		}
		s.mu.Unlock()
		wg.Wait()
	})
	return s
}

func (s *simSSH) serve(conn net.Conn) {
	defer conn.Close()
	_, channels, requests, err := ssh.NewServerConn(conn, s.conf)
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
		wg.Go(func() {
			for r := range asks {
				_ = r.Reply(r.Type == "pty-req" || r.Type == "shell", nil)
			}
		})
		s.mu.Lock()
		s.line = line
		s.mu.Unlock()
		wg.Go(func() { _, _ = io.Copy(s, line) })
	}
}

// Write implements io.Writer: it takes in what the machine is sent.
func (s *simSSH) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.typed.Write(b)
}

// received is what the machine was sent.
func (s *simSSH) received() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.typed.String()
}

// print has the machine write to its serial port; false when nobody reads there.
func (s *simSSH) print(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.line == nil {
		return false
	}
	_, err := io.WriteString(s.line, text)
	return err == nil
}
