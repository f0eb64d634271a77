package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"text/template"
	"time"

	"golang.org/x/crypto/ssh"

	_ "embed"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/lab"
)

const (
	labConsole = "127.0.0.1:8080" // inside of the rack's namespace
	labTimeout = 60 * time.Minute
	labUser    = "admin" // of the BMCs
)

//go:embed labfiles/provision.yaml.tmpl
var labConfig string

//go:embed labfiles/site.yaml.tmpl
var labSite string

// A labRack is a virtual rack with the server that boots it.
type labRack struct {
	dir     string
	program string // this program
	ipv6    bool
	rack    *lab.Rack
	server  *exec.Cmd // nil while it is down
	exited  chan error
	accel   lab.Accelerator
	key     ssh.Signer // signs in to the installed nodes
	client  *api.Client
}

// A labPlan is what rack to build, where, and out of what.
type labPlan struct {
	dir      string
	state    string // state folder that images and boot files are taken from
	machines []lab.Machine
	site     string // template of site.yaml
	hook     string // program that the BMCs run: this one
	ipv6     bool   // a rack without IPv4
}

// raiseLab builds the rack and everything that its server reads.
func raiseLab(ctx context.Context, o labPlan) (*labRack, error) {
	// The server runs elsewhere: relative paths would lead nowhere.
	for _, dir := range []*string{&o.state, &o.dir} {
		abs, err := filepath.Abs(*dir)
		if err != nil {
			return nil, err
		}
		*dir = abs
	}
	if err := labImages(o.state); err != nil {
		return nil, err
	}
	r := &labRack{dir: o.dir, program: o.hook, ipv6: o.ipv6, accel: lab.FindAccelerator(ctx)}
	// The database, and with it the fleet, is new each time; logs are kept.
	if err := os.RemoveAll(filepath.Join(o.dir, "state")); err != nil {
		return nil, fmt.Errorf("clear the last lab's state: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(o.dir, "state"), 0o700); err != nil {
		return nil, fmt.Errorf("make lab directory: %w", err)
	}
	for _, name := range []string{"images", "boot"} {
		if err := os.Symlink(filepath.Join(o.state, name), filepath.Join(o.dir, "state", name)); err != nil {
			return nil, err
		}
	}
	password := rand.Text()[:16] // what IPMI takes at most
	for i := range o.machines {
		o.machines[i].BMC.Username, o.machines[i].BMC.Password = labUser, password
	}
	if err := r.writeFiles(password, o.site); err != nil {
		return nil, err
	}
	var err error
	r.client, err = api.NewClient(api.ClientOptions{Server: "unix:" + r.socket()})
	if err != nil {
		return nil, err
	}
	r.rack, err = lab.Up(ctx, lab.Options{
		Name: labName(o.dir), Dir: rackDir(o.dir), Machines: o.machines, IPv6: o.ipv6, HookCommand: []string{o.hook, "lab", "hook"}, Accel: r.accel,
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, labError("build the rack", err)
	}
	return r, nil
}

// labName tells the namespaces of labs in several folders apart.
func labName(dir string) string {
	if dir == defaultLabDir {
		return "lab"
	}
	return "lab-" + filepath.Base(dir)
}

// labImages checks that there is something to boot and to install.
func labImages(state string) error {
	for _, name := range []string{"boot/vmlinuz", "boot/initrd.img", "boot/snponly.efi", "images"} {
		if _, err := os.Stat(filepath.Join(state, name)); err != nil {
			return &exitError{
				code: exitFailed, err: fmt.Errorf("no images in %s: %w", state, err),
				hint: "build them: provision images build debian-12 --state-dir " + state,
			}
		}
	}
	return nil
}

func (r *labRack) socket() string { return filepath.Join(r.dir, "api.sock") }

// writeFiles writes provision.yaml, site.yaml, the BMCs' password and a key
// for the administrator of the nodes.
func (r *labRack) writeFiles(password, siteTemplate string) error {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	if r.key, err = ssh.NewSignerFromKey(private); err != nil {
		return err
	}
	block, err := ssh.MarshalPrivateKey(private, "provision lab")
	if err != nil {
		return err
	}
	server := lab.ServerAddress.Addr()
	if r.ipv6 {
		server = lab.ServerAddress6.Addr()
	}
	values := map[string]string{
		"Dir": r.dir, "Socket": r.socket(), "Console": labConsole, "Server": server.String(), "Host": urlHost(server), "BMCUser": labUser,
		"SSHKey": strings.TrimSpace(string(ssh.MarshalAuthorizedKey(r.key.PublicKey()))),
	}
	config, err := render(labConfig, values)
	if err != nil {
		return err
	}
	site, err := render(siteTemplate, values)
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{
		"provision.yaml": config, "site.yaml": site, "bmc-password": []byte(password + "\n"), "id_ed25519": pem.EncodeToMemory(block),
	} {
		if err := os.WriteFile(filepath.Join(r.dir, name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// urlHost writes an address as it stands in URLs and before ports.
func urlHost(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}

func render(text string, values map[string]string) ([]byte, error) {
	t, err := template.New("").Option("missingkey=error").Parse(text)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	if err := t.Execute(&b, values); err != nil {
		return nil, err
	}
	return []byte(b.String()), nil
}

// startServer starts the server inside of the rack and waits until it
// answers.
func (r *labRack) startServer(ctx context.Context) error {
	log, err := os.OpenFile(filepath.Join(r.dir, "serve.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := r.rack.Command(context.WithoutCancel(ctx), r.program, "serve", "--config", filepath.Join(r.dir, "provision.yaml"))
	cmd.Stdout, cmd.Stderr = log, log
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true // Ctrl-C is ours: the server goes last
	if err := r.rack.Start(cmd); err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	r.server, r.exited = cmd, make(chan error, 1)
	go func(exited chan<- error) { exited <- cmd.Wait() }(r.exited)
	return r.awaitServer(ctx, log.Name())
}

func (r *labRack) awaitServer(ctx context.Context, log string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := r.client.Health(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case exit := <-r.exited:
			r.server = nil
			text, _ := os.ReadFile(log)
			return fmt.Errorf("the server ended at once: %v\n%s", exit, tail(text, 20))
		case <-ctx.Done():
			return fmt.Errorf("the server does not answer: %w; see %s", err, log)
		}
	}
}

func tail(text []byte, lines int) string {
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// stopServer ends the server by a signal and waits until it is gone.
func (r *labRack) stopServer(sig syscall.Signal) error {
	if r.server == nil {
		return nil
	}
	_ = r.server.Process.Signal(sig) // it may have ended by itself: Wait tells
	defer func() { r.server = nil }()
	select {
	case <-r.exited: //nolint:errcheck // a signal ended it: that is no news
		return nil
	case <-time.After(15 * time.Second):
		_ = r.server.Process.Kill()
		<-r.exited //nolint:errcheck // likewise
		return errors.New("the server did not stop within 15 s and was killed")
	}
}

// enrol declares the site and presses every power button once. The machines
// say hello by themselves and are switched off again.
func (r *labRack) enrol(ctx context.Context, say func(string, ...any)) error {
	if err := r.applySite(ctx); err != nil {
		return err
	}
	machines := r.rack.Machines()
	begin := time.Now()
	for _, m := range machines {
		if err := r.rack.PowerOn(ctx, m.Name); err != nil {
			return err
		}
	}
	say("pressed %d power buttons; waiting for the machines to enrol", len(machines))
	if err := r.awaitNodes(ctx, len(machines), say); err != nil {
		return err
	}
	say("%d machines enrolled in %s", len(machines), time.Since(begin).Round(time.Second))
	return nil
}

func (r *labRack) applySite(ctx context.Context) error {
	site, err := os.ReadFile(filepath.Join(r.dir, "site.yaml"))
	if err != nil {
		return err
	}
	if _, err := r.client.Apply(ctx, api.ApplyRequest{YAML: string(site), ForceDHCP: true}); err != nil {
		return fmt.Errorf("apply site.yaml: %w", err)
	}
	return nil
}

// awaitNodes waits until n nodes are ready and their machines are off.
func (r *labRack) awaitNodes(ctx context.Context, n int, say func(string, ...any)) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	seen := map[string]bool{}
	for {
		nodes, err := r.client.AllNodes(ctx, "")
		if err != nil {
			return err
		}
		ready := 0
		for _, node := range nodes {
			if !seen[node.ID] {
				seen[node.ID] = true
				say("  %s  %s %s  serial %s  %d MiB  BMC %s", node.MAC, node.Inventory.Vendor, node.Inventory.Product, node.Inventory.Serial, node.Inventory.MemoryMiB, node.BMC)
			}
			if node.State == "ready" {
				ready++
			}
		}
		if ready == n && r.allOff() {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d machines enrolled: %w; consoles and server log are in %s", ready, n, context.Cause(ctx), r.dir)
		}
	}
}

func (r *labRack) allOff() bool {
	for _, s := range r.rack.Status() {
		if s.On {
			return false
		}
	}
	return true
}

// down ends the server and the rack.
func (r *labRack) down() error {
	err := r.stopServer(syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return errors.Join(err, r.rack.Down(ctx))
}
