package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/rackstage/provision/fleet"
	httpd "github.com/rackstage/provision/http"
	ipxescripts "github.com/rackstage/provision/ipxe-scripts"
	"github.com/rackstage/provision/pxe"
	"github.com/rackstage/provision/pxe/tftp"
)

// tftpTree is what the TFTP server serves: loaders, the scripts that they ask
// for before anything else, and a tree of files for Raspberry Pis.
type tftpTree struct {
	st      *station
	root    *os.Root
	scripts *ipxescripts.Scripts
	web     *httpd.Server
	slow    tftp.SlowLoaders
}

func (st *station) openTree() (*tftpTree, error) {
	root, err := os.OpenRoot(filepath.Join(st.conf.StateDir, "boot"))
	if err != nil {
		return nil, err
	}
	scripts, err := ipxescripts.Load()
	if err != nil {
		return nil, err
	}
	return &tftpTree{st: st, root: root, scripts: scripts}, nil
}

func (st *station) tftpServer() (*tftp.Server, error) {
	return tftp.New(tftp.Options{
		Log: st.log, Open: st.tree.open, Done: st.sawTransfer, SinglePort: st.conf.TFTP.SinglePort, MaxBlock: st.maxBlock,
		Serves: st.mayBoot, Strangers: &st.strangers,
	})
}

func (st *station) mayBoot(client netip.Addr) bool {
	return mayBoot(st.engine.Site(), client.Unmap(), st.leases().Gave)
}

// mayBoot reports whether a machine that boots can have an address. A request
// in the name of any other is one that somebody else sent, for the answer to go
// there. Where we alone give out addresses, it is one of those that we gave.
func mayBoot(site fleet.Site, addr netip.Addr, gave func(netip.Addr) bool) bool {
	if addr.Is6() && addr.IsLinkLocalUnicast() {
		return true // no router passes that on
	}
	n, ok := site.SubnetOf(addr)
	switch {
	case !ok:
		return false
	case !n.Mode.GivesAddresses(), len(n.KnownDHCP)+len(n.KnownDUIDs) > 0:
		return true // others give out addresses there
	case n.SLAAC:
		return true // machines make their own
	}
	return gave(addr) || slices.ContainsFunc(n.Reservations, func(r fleet.Reservation) bool { return r.Addr == addr })
}

// quirkAt is how the machine that has an address boots otherwise than usual.
func (st *station) quirkAt(addr netip.Addr) fleet.Quirk {
	mac, ok := st.leases().machineAt(addr)
	if !ok {
		return fleet.Quirk{}
	}
	n, _ := st.engine.NodeByMAC(mac)
	return st.lessons.Quirk(pxe.Request{MAC: mac}, n)
}

// maxBlock is the largest TFTP block for the machine that has an address.
func (st *station) maxBlock(addr netip.Addr) int { return st.quirkAt(addr).BlockSize }

// open opens a file by its last name: firmware and shim put folders and
// slashes in front of it as they like.
func (t *tftpTree) open(ctx context.Context, name string, client netip.AddrPort) (io.ReadCloser, int64, error) {
	base := path.Base(name)
	if base == "autoexec.ipxe" && t.st.quirkAt(client.Addr()).NoAutoexec {
		return nil, 0, os.ErrNotExist
	}
	if base == "autoexec.ipxe" {
		return t.autoexec(client.Addr())
	}
	if script := path.Clean("/" + name); httpd.NamesGRUBScript(script) {
		return t.grub(ctx, script, client.Addr())
	}
	if !pxe.OfOnePi(name) {
		f, size, err := tftp.OpenIn(t.root, base)
		if err == nil {
			if !t.slow.May(client.Addr(), size, time.Now()) {
				_ = f.Close()
				return nil, 0, tftp.ErrNotByTFTP
			}
			return f, size, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return nil, 0, err
		}
	}
	file, ok := pxe.PiFile(name)
	if !ok {
		return nil, 0, os.ErrNotExist
	}
	return tftp.OpenIn(t.root, file)
}

func (t *tftpTree) autoexec(client netip.Addr) (io.ReadCloser, int64, error) {
	server, err := t.st.serverFor(client)
	if err != nil {
		return nil, 0, err
	}
	base := pxe.Request{Server: server, Port: portOf(t.st.conf.Listen.HTTP)}.BaseURL()
	script, err := t.scripts.AutoExec(base, pxe.PathScript)
	if err != nil {
		return nil, 0, err
	}
	return io.NopCloser(bytes.NewReader(script)), int64(len(script)), nil
}

func (t *tftpTree) grub(ctx context.Context, name string, client netip.Addr) (io.ReadCloser, int64, error) {
	server, err := t.st.serverFor(client)
	if err != nil {
		return nil, 0, err
	}
	script, err := t.web.GRUBScript(ctx, httpd.GRUBRequest{Path: name, Addr: client, Server: server, By: pxe.ByTFTP})
	if err != nil {
		return nil, 0, err
	}
	t.slow.Add(client, time.Now())
	return io.NopCloser(bytes.NewReader(script)), int64(len(script)), nil
}
