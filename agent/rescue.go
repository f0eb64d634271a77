package agent

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/rackstage/provision/agent/inventory"
	"github.com/rackstage/provision/agent/ramdisk"
	"github.com/rackstage/provision/agent/rescue"
	"github.com/rackstage/provision/agent/retry"
)

// rescue gives the machine to a person. It never ends by itself.
func (m machine) rescue(ctx context.Context, args ramdisk.Arguments) error {
	if !rescue.Available() {
		return errors.New("this ramdisk has no shell: the boot script names the wrong one")
	}
	if err := rescue.Install(ctx); err != nil {
		m.log.Warn("commands of the shell not put in place", "err", err)
	}
	if err := ramdisk.MountTerminals(); err != nil {
		m.log.Warn("no terminals for ssh", "err", err)
	}
	m.heard = inventory.NewNeighbours()
	m.await(m.loadDrivers(ctx))
	go rescue.Protect(ctx, m.log)
	go m.rescueBySSH(ctx, args)
	m.log.Info("rescue system: press Enter for a shell")
	rescue.Consoles(ctx, m.log)
	return ctx.Err()
}

// rescueBySSH brings the network up for people too, whether or not somebody may
// sign in.
func (m machine) rescueBySSH(ctx context.Context, args ramdisk.Arguments) {
	server, _ := serverAddr(args.Server)
	link := ramdisk.Network{MAC: args.MAC, Server: server, Log: m.log}
	lease, err := link.Up(ctx)
	if err != nil {
		m.log.Warn("network is not up", "err", err)
		return
	}
	m.log.Info("network is up", "iface", lease.Iface, "addr", lease.Prefix, "router", shown(lease.Router))
	go link.Keep(ctx, lease)
	keys := rescue.ParseKeys(args.Keys)
	if len(keys) == 0 {
		m.log.Info("nobody may sign in by ssh: no key was named")
		return
	}
	door, err := rescue.NewDoor(keys, m.log)
	if err != nil {
		m.log.Error("no ssh", "err", err)
		return
	}
	var delay retry.Delay
	for ctx.Err() == nil {
		l, err := net.Listen("tcp", ":22") //nolint:noctx // lives as long as the machine
		if err == nil {
			m.log.Info("ssh is open", "user", "root", "addr", lease.Prefix.Addr(), "host_key", door.Print, "keys", len(keys))
			err = door.Serve(ctx, l)
		}
		m.log.Warn("ssh ended", "err", err)
		_ = retry.Pause(ctx, max(time.Second, delay.Next()))
	}
}
