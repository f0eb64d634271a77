package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rackstage/provision/agent/disk"
	"github.com/rackstage/provision/agent/inventory"
	"github.com/rackstage/provision/agent/ramdisk"
	"github.com/rackstage/provision/agent/retry"
	"github.com/rackstage/provision/api"
)

const (
	sessionFile    = "/run/provision/session.json"
	driverPatience = time.Minute      // for slow disk controllers
	giveUpAfter    = 10 * time.Minute // then restart: a new boot brings a new ticket
)

// Ramdisk is the agent of a machine that booted over the network. It returns
// never: it ends by restarting the machine, or by switching it off.
func Ramdisk(ctx context.Context, version string) {
	console := ramdisk.OpenConsole()
	log := slog.New(ramdisk.NewLines(console))
	log.Info("agent started", "version", version, "kernel", kernelVersion())
	m := machine{log: log, version: version, restart: goDown(console, log)}
	err := m.install(ctx)
	log.Error("cannot go on; restarting for a new attempt", "in", giveUpAfter, "err", err)
	if p, ok := errors.AsType[*api.Problem](err); ok && p.Hint != "" {
		log.Error("what to do", "hint", p.Hint)
	}
	if !errors.Is(err, errOutcast) {
		_ = retry.Pause(ctx, giveUpAfter) // time to read the console
	}
	if err := m.restart(false); err != nil {
		log.Error("restart failed", "err", err)
	}
}

// A machine is this one, on its way to become a node.
type machine struct {
	log     *slog.Logger
	version string
	restart func(off bool) error
	heard   *inventory.Neighbours
}

func (m machine) install(ctx context.Context) error {
	text, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	args, err := ramdisk.ParseCommandLine(string(text))
	if err != nil {
		return err
	}
	if args.Rescue {
		return m.rescue(ctx, args)
	}
	c, err := newClient(args.Server, args.CA, m.log, SetClock)
	if err != nil {
		return err
	}
	m.heard = inventory.NewNeighbours()
	drivers := m.loadDrivers(ctx)
	server, _ := serverAddr(args.Server) // a name tells no family: IPv4
	net := ramdisk.Network{MAC: args.MAC, Server: server, Log: m.log}
	lease, err := net.Up(ctx)
	if err != nil {
		return err
	}
	m.log.Info("network is up", "iface", lease.Iface, "mac", lease.MAC, "addr", lease.Prefix, "router", shown(lease.Router), "dhcp", shown(lease.Server))
	if server.IsValid() && !lease.Reaches(server) {
		m.log.Warn("server is on another network, and the DHCP server named no router", "server", server)
	}
	go net.Keep(ctx, lease)
	m.await(drivers)
	ramdisk.RaiseAll()
	if err := m.identify(ctx, c, args, lease); err != nil {
		return err
	}
	return m.serve(ctx, c)
}

// loadDrivers loads modules in the background. The channel closes when all
// devices that can be found have been.
func (m machine) loadDrivers(ctx context.Context) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		begun := time.Now()
		if err := ramdisk.ServeModprobe("/init"); err != nil {
			m.log.Warn("kernel cannot ask for modules", "err", err)
		}
		modules, err := ramdisk.OpenModules()
		if err != nil {
			m.log.Error("no drivers in this ramdisk", "err", err)
			return
		}
		if hotplug, err := ramdisk.OpenHotplug(); err == nil {
			go hotplug.Serve(ctx, modules, m.log)
		}
		var wait sync.WaitGroup
		for _, name := range []string{"ipmi_si", "ipmi_devintf", "tpm_tis", "tpm_crb"} {
			wait.Go(func() { _ = modules.Load(name) }) // most machines lack one or the other
		}
		for _, err := range modules.Coldplug("/sys") {
			m.log.Warn("module not loaded", "err", err)
		}
		wait.Wait()
		if err := ramdisk.MountEFIVars(); err != nil {
			m.log.Warn("no firmware variables", "err", err)
		}
		m.log.Info("drivers loaded", "modules", modules.Loaded(), "took", time.Since(begun).Round(time.Millisecond))
		// For the steps; the kernel would ask for them one by one.
		go func() {
			for _, name := range []string{"fs-ext4", "fs-vfat", "nls_cp437", "nls_iso8859-1", "nls_ascii", "nls_utf8"} {
				_ = modules.Load(name) // built in, or asked for when it is needed
			}
		}()
	}()
	go func() {
		if err := m.heard.Listen(ctx); err != nil {
			m.log.Warn("no LLDP", "err", err)
		}
	}()
	return done
}

func (m machine) await(drivers <-chan struct{}) {
	t := time.NewTimer(driverPatience)
	defer t.Stop()
	select {
	case <-drivers:
	case <-t.C:
		m.log.Warn("drivers are still being loaded; disks may be missing", "after", driverPatience)
	}
}

// identify says hello, unless this boot's agent did already before it crashed.
func (m machine) identify(ctx context.Context, c *client, args ramdisk.Arguments, lease ramdisk.Lease) error {
	s := loadSession(sessionFile)
	if s.NodeID != "" {
		m.log.Info("going on as the node of before", "node", s.NodeID)
		return adopt(c, s.Certificate, s.Key)
	}
	id, err := s.identity()
	if err != nil {
		return err
	}
	m.keep(session{Key: id.keyPEM})
	mac := args.MAC
	if mac == "" {
		mac = lease.MAC.String()
	}
	inv, uuid := inventory.Machine{LLDP: m.heard}.Read(ctx)
	m.describe(inv)
	reply, err := hello(ctx, c, api.HelloRequest{
		Ticket: args.Ticket, BootID: bootID(), MAC: mac, UUID: uuid, Version: m.version, Inventory: inv,
	}, id)
	if err != nil {
		return fmt.Errorf("say hello to %s: %w", args.Server, err)
	}
	m.log.Info("hello accepted", "node", reply.NodeID, "server", args.Server)
	m.keep(session{reply.NodeID, reply.Certificate, id.keyPEM})
	return nil
}

// keep is for the case of a crash only; the agent does without.
func (m machine) keep(s session) {
	if err := s.save(sessionFile); err != nil {
		m.log.Warn("session not kept", "err", err)
	}
}

// describe shows on the console what the server is told.
func (m machine) describe(inv api.Inventory) {
	m.log.Info("machine", "vendor", inv.Vendor, "product", inv.Product, "serial", inv.Serial, "firmware", inv.Firmware,
		"threads", inv.CPU.Threads, "memory_mib", inv.MemoryMiB, "bmc", inv.BMC.Address, "tpm", inv.TPM)
	for _, d := range inv.Disks {
		m.log.Info("disk", "id", d.ID, "name", d.Name, "model", d.Model, "serial", d.Serial, "bytes", d.Bytes, "holds", d.Holds)
	}
	if len(inv.Disks) == 0 {
		m.log.Warn("no disk found: is the controller's driver in this ramdisk?")
	}
}

// serve does what the server says.
func (m machine) serve(ctx context.Context, c *client) error {
	in := &installer{client: c, disks: disk.System{}, log: m.log, restart: m.restart}
	waiting := sync.OnceFunc(func() { m.log.Info("waiting for approval: the server has nothing for this machine yet") })
	p := &poller{
		client: c, log: m.log, version: m.version, bootID: bootID(), idle: waiting,
		runner:  &runner{doers: in.doers(), log: m.log},
		changed: m.heard.Changed(),
		inventory: func(ctx context.Context) *api.Inventory {
			inv, _ := inventory.Machine{LLDP: m.heard}.Read(ctx)
			return &inv
		},
	}
	return p.run(ctx)
}

// shown is an address for people: "none" rather than "invalid IP".
func shown(a netip.Addr) string {
	if !a.IsValid() {
		return "none"
	}
	return a.String()
}

func serverAddr(server string) (netip.Addr, error) {
	u, err := url.Parse(server)
	if err != nil {
		return netip.Addr{}, err
	}
	return netip.ParseAddr(u.Hostname())
}

func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func kernelVersion() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}
