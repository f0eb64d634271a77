package bmc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/rackstage/provision/fleet"
)

// A shell is how a BMC gives its machine's console over SSH: at a port, after a
// command. Without a command the console is there at once.
type shell struct {
	port    int
	command string
}

const sshPort = 22

// shells are those of drivers and vendors, by what each documents. A service may
// say otherwise.
var shells = map[string]shell{
	string(fleet.DriverDell):       {sshPort, "console com2"},
	string(fleet.DriverSupermicro): {sshPort, "start /system1/sol1"},
	string(fleet.DriverOpenBMC):    {2200, ""},
	"hpe":                          {sshPort, "vsp"},
	"lenovo":                       {sshPort, "console 1"},
}

// consoleShell asks a Redfish service how its console is reached over SSH.
func (r *redfish) consoleShell(ctx context.Context) (shell, error) {
	var root struct{ Vendor string }
	if err := r.get(ctx, rootPath, &root); err != nil {
		return shell{}, err
	}
	known, ok := shells[string(r.target.Driver)]
	if !ok {
		known, ok = shells[strings.ToLower(strings.TrimSpace(root.Vendor))]
	}
	path, err := r.systemPath(ctx)
	if err != nil {
		return shell{}, err
	}
	var s struct {
		SerialConsole struct {
			SSH *struct {
				ServiceEnabled      *bool
				Port                int
				ConsoleEntryCommand string
			}
		}
	}
	if err := r.get(ctx, path, &s); err != nil {
		return shell{}, err
	}
	told := s.SerialConsole.SSH
	switch {
	case told == nil && !ok:
		return shell{}, fmt.Errorf("%w: it does not say how its console is reached over SSH", ErrUnsupported)
	case told == nil:
		return known, nil
	case told.ServiceEnabled != nil && !*told.ServiceEnabled:
		return shell{}, fmt.Errorf("%w: it says that SSH is off", ErrNoConsole)
	}
	if told.Port > 0 && told.Port < 1<<16 {
		known.port = told.Port
	}
	if cmd := told.ConsoleEntryCommand; cmd != "" && len(cmd) < 128 && !strings.ContainsAny(cmd, "\r\n") {
		known.command = cmd
	}
	if known.port == 0 {
		known.port = sshPort
	}
	return known, nil
}

// An sshConsole is a machine's serial console over SSH.
type sshConsole struct {
	target  Target
	client  *ssh.Client
	hangUp  func() error
	session *ssh.Session
	in      io.WriteCloser
	out     io.Reader
	hostKey string
	said    bool // the password was

	mu     sync.Mutex
	reason error // why it was closed, when that was not asked for
	closed bool
	stop   chan struct{}
	wait   sync.WaitGroup
}

const (
	sshPulse   = 20 * time.Second
	sshSilent  = 25 * time.Second
	sshColumns = 80
	sshLines   = 25
)

// openSSH signs in to a BMC's SSH service, whose host key is pinned, and asks for
// the console.
func (c *Controller) openSSH(ctx context.Context, t Target, how shell) (_ *sshConsole, err error) {
	host, _, err := t.at(0, sshPort)
	if err != nil {
		return nil, err
	}
	at := net.JoinHostPort(host, strconv.Itoa(how.port))
	raw, err := c.o.Dial(ctx, "tcp", at)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	s := &sshConsole{target: t, stop: make(chan struct{})}
	conn, channels, requests, err := ssh.NewClientConn(raw, at, s.config())
	if err != nil {
		_ = raw.Close()
		if s.said && ctx.Err() == nil && (errors.Is(err, io.EOF) || strings.Contains(err.Error(), "disconnect")) {
			return nil, fmt.Errorf("%w (%v)", ErrLogin, err) // some hang up on it
		}
		return nil, nameOfSSH(err)
	}
	s.client = ssh.NewClient(conn, channels, requests)
	s.hangUp = s.client.Close
	if err := s.begin(how.command); err != nil {
		_ = s.client.Close()
		return nil, nameOfSSH(err)
	}
	if !stop() { // the deadline has come
		_ = s.client.Close()
		return nil, ctx.Err()
	}
	_ = raw.SetDeadline(time.Time{})
	s.wait.Go(s.keepAlive)
	return s, nil
}

func (s *sshConsole) config() *ssh.ClientConfig {
	return &ssh.ClientConfig{
		User: s.target.Username,
		Auth: []ssh.AuthMethod{
			ssh.PasswordCallback(s.password),
			ssh.KeyboardInteractive(func(_, _ string, questions []string, echos []bool) (answers []string, err error) {
				answers = make([]string, len(questions))
				for i := range questions {
					if echos[i] {
						continue
					}
					if answers[i], err = s.password(); err != nil { // it asks for a secret, and we know one
						return nil, err
					}
				}
				return answers, nil
			}),
		},
		AuthCallback: func(*ssh.ClientAuthContext) (ssh.AuthMethod, error) {
			if s.said {
				return nil, ErrLogin // it has refused the password one way, and would the other
			}
			return nil, nil //nolint:nilnil // the next way
		},
		HostKeyCallback: s.checkKey,
		ClientVersion:   "SSH-2.0-provision",
	}
}

// password returns it once: each time that it is refused counts as a login.
func (s *sshConsole) password() (string, error) {
	if s.said {
		return "", ErrLogin
	}
	s.said = true
	return string(s.target.Password), nil
}

// checkKey holds a BMC to the host key that it showed first. The password is
// sent after that only.
func (s *sshConsole) checkKey(_ string, _ net.Addr, key ssh.PublicKey) error {
	s.hostKey = ssh.FingerprintSHA256(key)
	if want := s.target.HostKey; want != "" && want != s.hostKey {
		return fmt.Errorf("%w: known is %s, shown is %s", ErrHostKey, want, s.hostKey)
	}
	return nil
}

// begin asks for a terminal, a shell and the console.
func (s *sshConsole) begin(command string) (err error) {
	if s.session, err = s.client.NewSession(); err != nil {
		return err
	}
	if s.in, err = s.session.StdinPipe(); err != nil {
		return err
	}
	if s.out, err = s.session.StdoutPipe(); err != nil {
		return err
	}
	modes := ssh.TerminalModes{ssh.ECHO: 0}
	if err := s.session.RequestPty("vt100", sshLines, sshColumns, modes); err != nil {
		return err
	}
	if err := s.session.Shell(); err != nil {
		return err
	}
	if command == "" {
		return nil
	}
	_, err = io.WriteString(s.in, command+"\r")
	return err
}

// keepAlive finds out when the BMC is gone.
func (s *sshConsole) keepAlive() {
	tick := time.NewTicker(sshPulse)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		answered := make(chan error, 1)
		s.wait.Go(func() {
			_, _, err := s.client.SendRequest("keepalive@openssh.com", true, nil)
			answered <- err
		})
		silent := time.NewTimer(sshSilent)
		select {
		case err := <-answered:
			silent.Stop()
			if err == nil {
				continue
			}
		case <-silent.C:
		case <-s.stop:
			silent.Stop()
			return
		}
		s.end(fmt.Errorf("%w any more", ErrNoAnswer))
		return
	}
}

// end closes the connection, once.
func (s *sshConsole) end(reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed, s.reason = true, reason
	close(s.stop)
	_ = s.hangUp() // whatever it says, it is over
}

// Read reads what the machine writes.
func (s *sshConsole) Read(p []byte) (int, error) {
	n, err := s.out.Read(p)
	if err == nil || n > 0 {
		return n, nil
	}
	s.mu.Lock()
	closed, reason := s.closed, s.reason
	s.mu.Unlock()
	switch {
	case closed && reason == nil:
		return 0, io.EOF
	case !closed:
		reason = ErrConsoleTaken // BMCs hang up on the one when another comes
		if !errors.Is(err, io.EOF) {
			reason = nameOfSSH(err)
		}
	}
	return 0, trouble("follow console of", s.target, reason)
}

// Write types on the machine's keyboard.
func (s *sshConsole) Write(p []byte) (int, error) {
	typed := bytes.Clone(p) // it may be given up
	err := s.within(func() error {
		_, err := s.in.Write(typed)
		return err
	})
	if err != nil {
		return 0, trouble("type to", s.target, nameOfSSH(err))
	}
	return len(p), nil
}

// within ends the connection when a BMC that lives does not take what we send.
func (s *sshConsole) within(f func() error) error {
	taken := make(chan error, 1)
	go func() { taken <- f() }()
	late := time.NewTimer(sshSilent)
	defer late.Stop()
	select {
	case err := <-taken:
		return err
	case <-late.C:
		s.end(ErrHangs) // which ends f too
		return ErrHangs
	}
}

// Break holds the line, RFC 4335, where the BMC knows how.
func (s *sshConsole) Break() error {
	const milliseconds = 500
	err := s.within(func() error {
		ok, err := s.session.SendRequest("break", true, ssh.Marshal(struct{ Length uint32 }{milliseconds}))
		if err == nil && !ok {
			err = fmt.Errorf("%w: a break over SSH", ErrUnsupported)
		}
		return err
	})
	if err != nil {
		return trouble("send a break to", s.target, classify(err))
	}
	return nil
}

// BitRate is not told over SSH.
func (s *sshConsole) BitRate() int { return 0 }

// HostKey is the fingerprint of the BMC's host key.
func (s *sshConsole) HostKey() string { return s.hostKey }

// Close gives the console back.
func (s *sshConsole) Close() error {
	s.end(nil)
	s.wait.Wait()
	return nil
}

// nameOfSSH gives a failure of the SSH library its name. A refused login is an
// error of no type there.
func nameOfSSH(err error) error {
	switch {
	case errors.Is(err, ErrHostKey) || errors.Is(err, ErrLogin):
		return err
	case strings.Contains(err.Error(), "unable to authenticate"):
		return fmt.Errorf("%w (%v)", ErrLogin, err)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%w (%v)", ErrClosed, err)
	}
	if opening, ok := errors.AsType[*ssh.OpenChannelError](err); ok {
		return fmt.Errorf("%w (%v)", ErrRejected, opening)
	}
	return classify(err)
}
