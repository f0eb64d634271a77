package main

import (
	"context"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/dhcp/dhcp6"
	"github.com/rackstage/provision/engine"
	"github.com/rackstage/provision/fleet"
	httpd "github.com/rackstage/provision/http"
	"github.com/rackstage/provision/internal/porthold"
	"github.com/rackstage/provision/pxe/lessons"
	"github.com/rackstage/provision/pxe/tftp"
)

// doors are the sockets of the server, all opened before anything is
// answered: a port that is taken is said at once.
type doors struct {
	http httpd.Listeners
	tftp []net.PacketConn
}

func (d *doors) close() {
	for _, list := range [][]net.Listener{d.http.Boot, d.http.TLS, d.http.Plain, d.http.Local} {
		for _, l := range list {
			_ = l.Close()
		}
	}
	for _, c := range d.tftp {
		_ = c.Close()
	}
}

func (st *station) open() (_ *doors, err error) {
	d := &doors{}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	for _, want := range []struct {
		addr string
		into *[]net.Listener
		key  string
	}{
		{st.conf.Listen.HTTP, &d.http.Boot, "listen.http"},
		{st.conf.Listen.HTTPS, &d.http.TLS, "listen.https"},
		{st.conf.Listen.Console, &d.http.Plain, "listen.console"},
	} {
		if want.addr == "" {
			continue
		}
		l, err := listenTCP(want.addr, want.key)
		if err != nil {
			return d, err
		}
		*want.into = append(*want.into, l)
	}
	if err := st.openBootHTTPS(d); err != nil {
		return d, err
	}
	local, err := httpd.ListenLocal(st.conf.Listen.Socket)
	if err != nil {
		return d, err
	}
	d.http.Local = append(d.http.Local, local)
	if st.dhcp != nil {
		d.tftp, err = listenTFTP(st.conf.Listen.DHCP)
	}
	return d, err
}

// early opens sockets on addresses that are not ready yet: for a second or two
// after an interface came up, IPv6 looks whether somebody else has its address
// (RFC 4862 §5.4).
var early = net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_FREEBIND, 1) // a socket of IPv4 has no such option
	})
}}

func listenTCP(addr, key string) (net.Listener, error) {
	l, err := early.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, taken("tcp", int(portOf(addr)), key, err)
	}
	return l, nil
}

// listenTFTP opens port 69 on the addresses of the served interfaces: answers
// then leave from the address that was asked.
func listenTFTP(interfaces []string) ([]net.PacketConn, error) {
	var conns []net.PacketConn
	for _, name := range interfaces {
		addrs, err := addrsOf(name)
		if err != nil {
			return conns, err
		}
		for _, a := range addrs {
			c, err := listenTFTPAt(a)
			if err != nil {
				return conns, err
			}
			conns = append(conns, c)
		}
	}
	return conns, nil
}

func listenTFTPAt(a netip.Addr) (net.PacketConn, error) {
	c, err := early.ListenPacket(context.Background(), "udp", netip.AddrPortFrom(a, tftp.Port).String())
	if err != nil {
		return nil, taken("udp", tftp.Port, "listen.dhcp", err)
	}
	return c, nil
}

func taken(network string, port int, key string, err error) error {
	return &fleet.Error{Kind: fleet.Conflict, Code: "E-PORT", Err: porthold.Explain(network, port, err), Hint: "stop it, or set another " + key}
}

// portOf returns the port of HOST:PORT; the configuration was checked.
func portOf(addr string) uint16 {
	_, port, _ := net.SplitHostPort(addr)
	n, _ := strconv.ParseUint(port, 10, 16)
	return uint16(n)
}

func (st *station) httpServer() (*httpd.Server, error) {
	names, ips, err := st.names()
	if err != nil {
		return nil, err
	}
	secure, err := st.authority.ServerTLS(names, ips)
	if err != nil {
		return nil, err
	}
	o := httpd.Options{
		Log: st.log, Version: api.Version{Version: version, Server: version},
		Engine: bootEngine{st.engine, st.lessons}, Accounts: st.accounts, Authority: st.authority, Images: imageWire{st.images}, Secrets: st.secrets,
		ParseSite: st.parseSite, Counters: st.counters, Consoles: st.consoles, Quirk: st.lessons.OfNode, Doctor: st.doctor, Profile: bmcProfileYAML, BootDir: filepath.Join(st.conf.StateDir, "boot"), Absent: st.absent,
		PrivateDir: filepath.Join(st.conf.StateDir, "private"), Seed: seeds{}.Seed, ServerFor: st.serverFor, ByHTTPS: st.byHTTPS,
		BootPort: portOf(st.conf.Listen.HTTP), BootHTTPS: portOf(st.conf.Listen.BootHTTPS), AgentPort: portOf(st.conf.Listen.HTTPS),
		TLS: secure, DemoLogin: st.conf.DemoLogin, Relays: st.relays, Segments: segments{st}, OnePort: st.conf.TFTP.SinglePort, DUID: dhcp6.DUID(st.serverID()),
	}
	if st.tree, err = st.openTree(); err != nil {
		return nil, err
	}
	if st.dhcp != nil {
		o.Leases, o.Held, o.TFTP, o.Arming = st.leases(), st.leases(), st.tree.open, st.dhcp.CheckArming
		o.Network = st.network()
	}
	if st.tree.web, err = httpd.New(o); err == nil {
		st.web.Store(st.tree.web)
	}
	return st.tree.web, err
}

// parseSite reads a site.yaml that came by the API, and the files that it
// names.
func (st *station) parseSite(src []byte) (fleet.Site, error) {
	site, err := parseSite("site.yaml", src, st.canServe)
	if err != nil {
		return site, err
	}
	return site, st.readFiles(&site)
}

// names are what the server's certificate is for: the configured ones, and
// the addresses of the interfaces that it serves.
func (st *station) names() (names []string, ips []netip.Addr, err error) {
	ips = append(ips, netip.MustParseAddr("127.0.0.1"))
	all := st.conf.Advertise.Names
	if a := st.conf.Advertise.Address; a != "" {
		all = append(all, a)
	}
	for _, n := range all {
		if ip, err := netip.ParseAddr(n); err == nil {
			ips = append(ips, ip)
			continue
		}
		names = append(names, n)
	}
	for _, i := range st.conf.Listen.DHCP {
		addrs, err := addrsOf(i)
		if err != nil {
			return nil, nil, err
		}
		ips = append(ips, addrs...)
	}
	return append(names, "localhost"), ips, nil
}

// bootEngine is the engine as the web server sees it: what it observes teaches.
type bootEngine struct {
	*engine.Engine
	lessons *lessons.Learner
}

// Observe implements httpd.Boots.
func (b bootEngine) Observe(ev fleet.Evidence) { b.lessons.Observe(ev) }
