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
	file, script := strings.CutSuffix(file, ".cfg")
	if !found || !whole || !script || strings.Contains(file, "/") {
		return grubName{}, false
	}
	mac, do, _ := strings.Cut(file, ".")
	p.do = choice(do)
	p.arch = pxe.EFIX64
	if cpu == "arm64" {
		p.arch = pxe.EFIARM64
	}
	p.mac, _ = fleet.ParseMAC(mac) // GRUB may not know it: the lease tells
	return p, true
}

// NamesGRUBScript reports whether a path, cleaned and with a leading slash, is
// of a script for GRUB.
func NamesGRUBScript(name string) bool {
	_, ok := grubPath(name)
	return ok
}

// A grubName is what GRUB's name of a script says.
type grubName struct {
	first bool // the one for every machine
	arch  pxe.Arch
	mac   fleet.MAC // "" when it is none
	do    choice
}

// A grubEnd is what GRUB needs to name files of ours.
type grubEnd struct {
	device string // "(http,10.77.0.1)"
	cpu    string // in GRUB's words
}

func (v *visit) grubFile(do choice) string { return v.grubStem() + string(do) + ".cfg" }

func (v *visit) grubStem() string {
	return v.grub.device + pxe.PathGRUB + v.grub.cpu + "/" + string(v.ask.MAC) + "."
}

// grub answers GRUB by HTTP. It reports whether the path is one of GRUB's.
func (b boot) grub(w http.ResponseWriter, req *http.Request, name string) bool {
	if !NamesGRUBScript(name) {
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
	v := b.grubVisitor(g, mac, bootQuery{Arch: said.arch, Do: said.do})
	return b.grubFor(ctx, v, g.By)
}

func (b boot) grubVisitor(g GRUBRequest, mac fleet.MAC, q bootQuery) *visit {
	v := &visit{dry: g.Asking}
	b.fill(v, pxe.GRUB, g.Addr, g.Server, mac, q)
	v.grub = grubEnd{device: "(http," + hostPort(v.ask) + ")", cpu: "x86_64"}
	if g.By == pxe.ByTFTP {
		v.grub.device = "(tftp," + g.Server.String() + ")"
	}
	if q.Arch == pxe.EFIARM64 {
		v.grub.cpu = "arm64"
	}
	return v
}

// grubFor answers a machine with GRUB, as [boot.script] answers one with iPXE.
func (b boot) grubFor(ctx context.Context, v *visit, by pxe.Transport) ([]byte, error) {
	do := b.settle(ctx, v)
	if (do == doAgent || do == doCustom) && !v.dry && !b.tickets.allow(v.node, v.ask.Addr) {
		b.counts.ticketsRefused.Add(1)
		b.o.Log.DebugContext(ctx, "boot ticket refused: too many from this address", "mac", v.ask.MAC, "addr", v.ask.Addr)
		return nil, &fleet.Error{Kind: fleet.Denied, Op: "make boot ticket", Err: errTooManyTickets}
	}
	text, err := b.composeGRUB(ctx, v, do)
	if !v.dry && err == nil {
		b.o.Engine.Observe(fleet.Evidence{
			At: b.o.Now(), MAC: v.ask.MAC, Phase: fleet.PhaseScript,
			Detail: string(do) + " script for GRUB, by " + string(by) + " from " + v.ask.Addr.String(),
		})
	}
	return text, err
}

func (b boot) composeGRUB(ctx context.Context, v *visit, do choice) ([]byte, error) {
	wait := func(why string) ([]byte, error) { return b.grubScripts.Wait(v.title, why) }
	switch do {
	case doMenu:
		if v.do != doMenu {
			return b.grubScripts.ShowMenu(v.grubFile(doMenu))
		}
		m := b.menuFor(v)
		m.URL = v.grubStem()
		return b.grubScripts.Menu(m)
	case doMemTest:
		return b.grubScripts.MemTest(v.title, v.grub.device+pxe.PathFiles+memTests(v.ask.Arch))
	case doLocal:
		return b.grubScripts.Local(v.title, v.grubFile(doMenu))
	case doCustom:
		text, fault := b.customScript(ctx, v)
		if fault != "" {
			return wait(fault)
		}
		return text, nil
	case doRescue:
		ramdisk, fault := b.rescueRamdisk(v)
		if fault != "" {
			return wait(fault)
		}
		return b.grubScripts.Rescue(b.grubRamdisk(v, ramdisk, rescueFile(v.ask.Arch)))
	case doAgent:
		ticket, fault := b.ticket(ctx, v)
		if fault != "" {
			return wait(fault)
		}
		_, ramdisk := bootFiles(v.ask.Arch)
		a := ipxescripts.Agent{Title: v.title, Server: v.front.name, Args: v.front.agentArgs(v.ask.MAC, ticket)}
		return b.grubScripts.Agent(b.grubRamdisk(v, a, ramdisk))
	default:
		return wait(v.plan.Reason)
	}
}

// grubRamdisk names kernel, ramdisk and menu as GRUB does.
func (b boot) grubRamdisk(v *visit, a ipxescripts.Agent, ramdisk string) ipxescripts.GRUBAgent {
	kernel, _ := bootFiles(v.ask.Arch)
	a.Kernel, a.Initrd, a.Menu = v.grub.device+pxe.PathFiles+kernel, v.grub.device+pxe.PathFiles+ramdisk, v.grubFile(doMenu)
	return ipxescripts.GRUBAgent{Agent: a, Console: consoles(v.ask.Arch)}
}

// hostPort is our HTTP boot listener in the form that GRUB's devices take.
func hostPort(r pxe.Request) string { return strings.TrimPrefix(r.BaseURL(), "http://") }
