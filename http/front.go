package http

import (
	"net/netip"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/pxe"
)

// A front is what machines see of us at one of our addresses, written once.
type front struct {
	name  string // the address
	files string // URL of the boot files, with a slash at its end
	menu  string // URL of a machine's script up to its MAC address
	args  [2]string
}

// A frontKey names a front: an address, with or without TLS.
type frontKey struct {
	addr   netip.Addr
	secure bool
}

// front returns what machines see at an address. There are as many as we have
// addresses and the subnets name.
func (s *Server) front(addr netip.Addr) *front { return s.frontFor(frontKey{addr: addr}) }

func (s *Server) frontFor(key frontKey) *front {
	if f, ok := s.fronts.Load(key); ok {
		return f.(*front)
	}
	addr := key.addr
	ask := pxe.Request{Server: addr, Port: s.o.BootPort}
	if key.secure {
		ask.Secure, ask.Port = true, s.o.BootHTTPS
	}
	base := ask.BaseURL()
	f := &front{
		name: addr.String(), files: base + pxe.PathFiles, menu: base + pxe.PathScript + "?mac=",
		args: [2]string{
			api.ArgServer + "=https://" + netip.AddrPortFrom(addr, s.o.AgentPort).String(),
			api.ArgCA + "=" + s.caDigest,
		},
	}
	s.fronts.Store(key, f)
	return f
}

// menuOf is the URL of a machine's menu.
func (f *front) menuOf(mac fleet.MAC) string {
	url := append(append(make([]byte, 0, 128), f.menu...), mac...)
	for i := len(f.menu); i < len(url); i++ {
		if url[i] == ':' {
			url[i] = '-'
		}
	}
	return string(url)
}

// agentArgs tell the agent, on the kernel's command line, where its server is
// and who it is itself.
func (f *front) agentArgs(mac fleet.MAC, ticket string) []string {
	return []string{f.args[0], f.args[1], api.ArgTicket + "=" + ticket, api.ArgMAC + "=01-" + dashed(mac)}
}
