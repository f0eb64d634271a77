package http

import (
	"context"
	"net/http"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/rackstage/provision/fleet"
	ipxescripts "github.com/rackstage/provision/ipxe-scripts"
	"github.com/rackstage/provision/pxe"
)

// grubFirst is what GRUB asks for first, in whatever folder it thinks that it
// came from; it tries grub.cfg-01-MAC and names made of its address before.
const grubFirst = "grub.cfg"

const (
	fileKernelARM64  = "vmlinuz-arm64"
	fileRamdiskARM64 = "initrd-arm64.img"
)

// bootFiles are the kernel and the ramdisk for an architecture.
func bootFiles(a pxe.Arch) (kernel, ramdisk string) {
	if a == pxe.EFIARM64 {
		return fileKernelARM64, fileRamdiskARM64
	}
	return fileKernel, fileRamdisk
}

// consoles are kernel arguments that name the consoles of an architecture.
// The last one is where the kernel's own messages end up.
func consoles(a pxe.Arch) []string {
	if a == pxe.EFIARM64 {
		return []string{"console=ttyS0,115200", "console=ttyAMA0,115200", "console=tty0"}
	}
	return []string{"console=ttyS0,115200", "console=tty0"}
}

// grubPath tells what of GRUB's a path asks for: its first script, or that of
// the machine that is named.
func grubPath(name string) (p grubName, ok bool) {
	base := path.Base(name)
	if base == grubFirst || strings.HasPrefix(base, grubFirst+"-") {
		return grubName{first: true}, true
	}
	rest, found := strings.CutPrefix(name, pxe.PathGRUB)
	cpu, file, whole := strings.Cut(rest, "/")
	mac, script := strings.CutSuffix(file, ".cfg")
	if !found || !whole || !script || strings.Contains(mac, "/") {
		return grubName{}, false
	}
	p.arch = pxe.EFIX64
	if cpu == "arm64" {
		p.arch = pxe.EFIARM64
	}
	p.mac, _ = fleet.ParseMAC(mac) // GRUB may not know it: the lease tells
	return p, true
}

// A grubName is what GRUB's name of a script says.
type grubName struct {
	first bool // the one for every machine
	arch  pxe.Arch
	mac   fleet.MAC // "" when it is none
}

// grub answers GRUB by HTTP. It reports whether the path is one of GRUB's.
func (b boot) grub(w http.ResponseWriter, req *http.Request, name string) bool {
	if _, ok := grubPath(name); !ok {
		return false
	}
	script, err := b.GRUBScript(req.Context(), GRUBRequest{
		Path: name, Addr: remoteAddr(req), Server: b.serverFor(remoteAddr(req), localAddr(req)), By: pxe.ByHTTP,
		Asking: req.Method == http.MethodHead,
	})
	if err != nil && fleet.KindOf(err) == fleet.Denied {
		http.Error(w, err.Error(), http.StatusTooManyRequests)
		return true
	}
	send(w, req, b.made(req.Context(), remoteAddr(req), script, err))
	return true
}

// bareLoader maps a loader's name, in whatever folder it is asked for, to the
// one folder of loaders. shim looks for GRUB beside itself with a double
// slash, or at the root.
func bareLoader(name string) (file string, ok bool) {
	file = path.Base(name)
	return file, slices.Contains(pxe.Loaders(), file)
}

// A GRUBRequest is GRUB asking for a script, by HTTP or TFTP.
type GRUBRequest struct {
	Path   string // cleaned, with a leading slash
	Addr   netip.Addr
	Server netip.Addr // our address, as the machine sees it
	By     pxe.Transport
	Asking bool // it wants to know only how long the script is
}

// GRUBScript returns a script for GRUB. Who asks is told by the lease of the
// address, as for iPXE: the MAC address in the path is believed only where we
// do not give out the addresses.
func (s *Server) GRUBScript(ctx context.Context, g GRUBRequest) ([]byte, error) {
	said, ok := grubPath(g.Path)
	if !ok {
		return nil, &fleet.Error{Kind: fleet.NotFound, On: "GRUB script"}
	}
	if said.first {
		at := hostPort(pxe.Request{Server: g.Server, Port: s.o.BootPort})
		return s.grubScripts.First(at, g.Server.String(), pxe.PathGRUB)
	}
	b := boot{s}
	mac, ok := b.machineAt(ctx, g.Addr, said.mac)
	if !ok {
		return s.grubScripts.Wait("this machine", b.unknownAt(g.Addr, said.mac))
	}
	subnet, _ := s.o.Engine.Site().SubnetOf(g.Addr)
	node, _ := s.o.Engine.NodeByMAC(mac)
	ask := pxe.Request{
		MAC: mac, Firmware: pxe.GRUB, Arch: said.arch, Addr: g.Addr, Subnet: subnet.Name, Server: g.Server, Port: s.o.BootPort,
	}
	return b.grubFor(ctx, g, ask, node)
}

func (b boot) grubFor(ctx context.Context, g GRUBRequest, ask pxe.Request, node fleet.Node) ([]byte, error) {
	plan := pxe.Decide(ask, node)
	title := node.Title()
	if title == "" {
		title = string(ask.MAC)
	}
	if !g.Asking {
		b.o.Engine.Observe(fleet.Evidence{
			At: b.o.Now(), MAC: ask.MAC, Phase: fleet.PhaseScript,
			Detail: fleet.CleanText(strings.TrimSuffix(plan.File, ".ipxe") + " script for GRUB, by " + string(g.By) + " from " + g.Addr.String()),
		})
	}
	switch plan.File {
	case pxe.ScriptAgent:
		return b.grubAgent(ctx, g, ask, title)
	case pxe.ScriptLocal:
		return b.grubScripts.Local(title)
	default:
		return b.grubScripts.Wait(title, plan.Reason)
	}
}

// grubAgent boots the ramdisk, with the hello's one-use ticket among the
// kernel arguments.
func (b boot) grubAgent(ctx context.Context, g GRUBRequest, ask pxe.Request, title string) ([]byte, error) {
	ticket := noTicket
	if !g.Asking {
		if !b.tickets.Allow(ask.Addr) {
			b.counts.ticketsRefused.Add(1)
			b.o.Log.DebugContext(ctx, "boot ticket refused: too many from this address", "mac", ask.MAC, "addr", ask.Addr)
			return nil, &fleet.Error{Kind: fleet.Denied, Op: "make boot ticket", Err: errTooManyTickets}
		}
		var err error
		if ticket, err = b.o.Engine.MintHello(ctx, ask.MAC, ask.Addr); err != nil {
			b.o.Log.ErrorContext(ctx, "boot ticket not made", "mac", ask.MAC, "err", err)
			return b.grubScripts.Wait(title, "the server cannot make a boot ticket now")
		}
	}
	from := "(http," + hostPort(ask) + ")"
	if g.By == pxe.ByTFTP {
		from = "(tftp," + ask.Server.String() + ")"
	}
	kernel, ramdisk := bootFiles(ask.Arch)
	return b.grubScripts.Agent(ipxescripts.GRUBAgent{
		Agent: ipxescripts.Agent{
			Title: title, Server: ask.Server.String(),
			Kernel: from + pxe.PathFiles + kernel, Initrd: from + pxe.PathFiles + ramdisk,
			Args: b.front(ask.Server).agentArgs(ask.MAC, ticket),
		},
		Console: consoles(ask.Arch),
	})
}

// hostPort is our HTTP boot listener in the form that GRUB's devices take.
func hostPort(r pxe.Request) string { return strings.TrimPrefix(r.BaseURL(), "http://") }
