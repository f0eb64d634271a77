package lab

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/command/chassis"
	"github.com/insomniacslk/dhcp/dhcpv4"
)

// rackName is one that no other rack on this host has.
func rackName() string { return fmt.Sprintf("test%d", os.Getpid()) }

// up builds a rack for one test and takes it down after it.
func up(t *testing.T, ms ...Machine) *Rack {
	t.Helper()
	r, err := Up(t.Context(), Options{
		Name: rackName(), Dir: filepath.Join(t.TempDir(), "rack"), Machines: ms, HookCommand: testHook, Accel: TCG,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Down(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		gone(t, r)
	})
	return r
}

// gone sees that nothing is left of a rack but its logs.
func gone(t *testing.T, r *Rack) {
	t.Helper()
	if r.namespace().exists() {
		t.Errorf("the namespace %s is still there", r.namespace())
	}
	for _, s := range r.Status() {
		if s.On || s.BMC {
			t.Errorf("machine %s: on %t, BMC %t, after the rack went down", s.Machine.Name, s.On, s.BMC)
		}
		if _, err := os.Stat(filepath.Join(s.Dir, diskFile)); err == nil {
			t.Errorf("the disk of %s is still there", s.Machine.Name)
		}
	}
}

// discover returns the DISCOVERs that cross the rack's bridge.
func discover(ctx context.Context, t *testing.T, r *Rack) <-chan *dhcpv4.DHCPv4 {
	t.Helper()
	out := make(chan *dhcpv4.DHCPv4, 1)
	ctx, cancel := context.WithCancel(ctx)
	wait, err := r.Capture(ctx, func(_ time.Time, frame []byte) {
		const headers = 14 + 20 + 8 // Ethernet, IPv4, UDP
		if len(frame) < headers || frame[12] != 8 || frame[13] != 0 || frame[23] != 17 {
			return
		}
		d, err := dhcpv4.FromBytes(frame[headers:])
		if err != nil || d.MessageType() != dhcpv4.MessageTypeDiscover {
			return
		}
		select {
		case out <- d:
		default:
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := wait(); err != nil {
			t.Error(err)
		}
	})
	return out
}

func receive(ctx context.Context, t *testing.T, asked <-chan *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	t.Helper()
	select {
	case d := <-asked:
		return d
	case <-ctx.Done():
		t.Fatal("no DISCOVER came")
		return nil
	}
}

func drain(asked <-chan *dhcpv4.DHCPv4) {
	select {
	case <-asked:
	default:
	}
}

func login(ctx context.Context, t *testing.T, r *Rack, m Machine) *client.Client {
	t.Helper()
	c, err := r.ipmiClient(ctx, m)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Connect(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.WithoutCancel(ctx)) })
	return c
}

func control(ctx context.Context, t *testing.T, c *client.Client, what chassis.ChassisControl) {
	t.Helper()
	if _, err := c.ChassisControl(ctx, what); err != nil {
		t.Fatalf("chassis control %v: %v", what, err)
	}
}

func powered(ctx context.Context, t *testing.T, c *client.Client) bool {
	t.Helper()
	s, err := c.GetChassisStatus(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return s.PowerIsOn
}

// kill starts a program and kills it as soon as it is ready.
func kill(t *testing.T, c *exec.Cmd) {
	t.Helper()
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	_ = c.Process.Kill()
	_ = c.Wait()
	if line != "ready\n" {
		t.Fatalf("the program said %q, %v", line, err)
	}
}
