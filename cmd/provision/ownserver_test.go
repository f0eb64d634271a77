package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rackstage/provision/api"
)

// An ownServer is `provision serve`, really running: in a process of its own,
// with a folder and ports of its own.
type ownServer struct {
	dir    string
	http   string // address of the boot listener
	https  string
	cmd    *exec.Cmd
	client *api.Client
}

// newServer makes the folder of a server that is to be started: with a site, in
// which DIR is that folder, with more in its provision.yaml than it needs, and
// with other files. Its boot files are stand-ins.
func newServer(t *testing.T, site, more string, files map[string]string) *ownServer {
	t.Helper()
	dir, err := os.MkdirTemp("", "plife") //nolint:usetesting // sockets need short paths
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &ownServer{dir: dir, http: freeAddress(t), https: freeAddress(t)}
	config := fmt.Sprintf("state_dir: %s/state\nlog_level: debug\nlisten: {http: %q, https: %q, socket: %q}\n%s", dir, s.http, s.https, filepath.Join(dir, "api.sock"), more)
	all := map[string]string{
		"site.yaml": strings.ReplaceAll(site, "DIR", dir), "provision.yaml": config, "state/boot/vmlinuz": "x", "state/boot/initrd.img": "x",
	}
	maps.Copy(all, files)
	for name, text := range all {
		name = filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// addUser adds a person whose password is in a file of the server's folder.
func (s *ownServer) addUser(t *testing.T, name, role, file string) {
	t.Helper()
	s.run(t, "users", "add", name, "--role", role, "--password-file", filepath.Join(s.dir, file), "--state-dir", filepath.Join(s.dir, "state"))
}

// program is this test's own binary, which is provision when it is called so.
func (s *ownServer) program(ctx context.Context, args ...string) *exec.Cmd {
	self, _ := os.Executable() // it runs
	cmd := exec.CommandContext(ctx, self)
	cmd.Args = append([]string{"provision"}, args...)
	return cmd
}

// command is provision as a person runs it, to talk to this server.
func (s *ownServer) command(ctx context.Context, args ...string) *exec.Cmd {
	return s.program(ctx, append(args, "--server", "unix:"+filepath.Join(s.dir, "api.sock"))...)
}

func (s *ownServer) run(t *testing.T, args ...string) {
	t.Helper()
	if out, err := s.program(t.Context(), args...).CombinedOutput(); err != nil {
		t.Fatalf("provision %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func (s *ownServer) start(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(s.dir, "serve.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	s.cmd = s.program(context.WithoutCancel(t.Context()), "serve", "--config", filepath.Join(s.dir, "provision.yaml"), "--site", filepath.Join(s.dir, "site.yaml"))
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	server := s.cmd
	t.Cleanup(func() {
		if server.ProcessState == nil {
			_ = server.Process.Kill()
			_ = server.Wait()
		}
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("serve.log:\n%s", tail(text, 40))
		}
	})
	if s.client, err = api.NewClient(api.ClientOptions{Server: "unix:" + filepath.Join(s.dir, "api.sock")}); err != nil {
		t.Fatal(err)
	}
	until(t, 30*time.Second, "the server answers", func(ctx context.Context) (bool, error) { return s.client.Health(ctx) == nil, nil })
}

func (s *ownServer) stop(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	_ = s.cmd.Wait() // a signal ended it
}

// web is a client of the TLS listener.
func (s *ownServer) web(cert *tls.Certificate) *http.Client {
	conf := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // the server is ours
	if cert != nil {
		conf.Certificates = []tls.Certificate{*cert}
	}
	return &http.Client{
		Transport:     &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func (s *ownServer) get(t *testing.T, c *http.Client, address string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
