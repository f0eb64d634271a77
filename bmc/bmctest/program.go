package bmctest

import (
	"context"
	"embed"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"text/template"
	"time"
)

//go:embed files
var files embed.FS

var templates = template.Must(template.ParseFS(files, "files/*"))

// A program is a device that another project simulates, in a process of its
// own, and the folder that it lives in.
type program struct {
	dir string
	cmd *exec.Cmd
}

// fill writes files of ours, filled in, and texts into its folder.
func (p *program) fill(data any, names []string, texts map[string]string) error {
	for _, name := range names {
		var b strings.Builder
		if err := templates.ExecuteTemplate(&b, name, data); err != nil {
			return fmt.Errorf("fill in %s: %w", name, err)
		}
		if err := p.put(name, b.String()); err != nil {
			return err
		}
	}
	for name, text := range texts {
		if err := p.put(name, text+"\n"); err != nil {
			return err
		}
	}
	return nil
}

func (p *program) put(name, text string) error {
	return os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o600)
}

// set writes a file anew that its scripts look at.
func (p *program) set(t *testing.T, name, text string) {
	t.Helper()
	if err := p.put(name, text+"\n"); err != nil {
		t.Fatal(err)
	}
}

func (p *program) get(name string) string {
	b, _ := os.ReadFile(filepath.Join(p.dir, name)) // "" when there is none
	return strings.TrimSpace(string(b))
}

// start runs it. Package is the one of Debian's that it is in.
func (p *program) start(ctx context.Context, pkg string, env []string, name string, args ...string) error {
	p.cmd = exec.CommandContext(ctx, name, args...)
	p.cmd.Env = append(os.Environ(), env...)
	if err := p.cmd.Start(); err != nil {
		p.cmd = nil
		return fmt.Errorf("%w; install it with: apt-get install -y %s", err, pkg)
	}
	return nil
}

// End takes the device's current away.
func (p *program) End() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait() // it was killed
	p.cmd = nil
}

// Signal stops a device that is to freeze, and has it go on.
func (p *program) Signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// generous is more time than anything takes that a test waits for, on a machine
// with far too much to do: it ends tests which would wait for ever.
const generous = time.Minute

// await asks again and again until there is no error.
func await(t *testing.T, what string, ask func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), generous)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask(ctx)
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("in vain: %s: %v", what, err)
		}
	}
}

// FreePort is a port of UDP that nobody listens on.
func FreePort(t *testing.T) string {
	t.Helper()
	c, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, port, err := net.SplitHostPort(c.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// freeAddress is one of loopback with such a port.
func freeAddress(t *testing.T) string {
	t.Helper()
	return net.JoinHostPort("127.0.0.1", FreePort(t))
}
