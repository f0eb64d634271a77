package http

import (
	"errors"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
	ipxescripts "github.com/rackstage/provision/ipxe-scripts"
	"github.com/rackstage/provision/pxe"
)

// script answers iPXE with what its machine shall do.
func (b boot) script(w http.ResponseWriter, req *http.Request) {
	mac, ok := b.machine(req)
	if !ok {
		reason := "its request says no MAC address and its address has no lease"
		if b.leasesRule(remoteAddr(req)) {
			reason = "its address has no lease from this server"
		}
		b.sendScript(w, req, made(b.scripts.Wait("this machine", reason)))
		return
	}
	node, _ := b.o.Engine.NodeByMAC(mac)
	ask := b.request(req, mac)
	plan := pxe.Decide(ask, node)
	title := node.Title()
	if title == "" {
		title = string(mac)
	}
	switch plan.File {
	case pxe.ScriptAgent:
		if req.Method == http.MethodGet && !b.tickets.Allow(ask.Addr) {
			b.refuseTicket(w, req, ask)
			return
		}
		b.agentScript(w, req, ask, title)
	case pxe.ScriptLocal:
		b.sendScript(w, req, made(b.scripts.Local(title)))
	default:
		b.sendScript(w, req, made(b.scripts.Wait(title, plan.Reason)))
	}
	if req.Method == http.MethodGet {
		b.observe(req, fleet.PhaseScript, string(plan.Action)+" script")
	}
}

// request is what the asking machine is to package pxe.
func (b boot) request(req *http.Request, mac fleet.MAC) pxe.Request {
	uuid, err := fleet.ParseUUID(req.URL.Query().Get("uuid"))
	if err != nil {
		uuid = ""
	}
	addr := remoteAddr(req)
	subnet, _ := b.o.Engine.Site().SubnetOf(addr)
	return pxe.Request{
		MAC: mac, UUID: uuid, Firmware: pxe.IPXE, Arch: archOf(req), Addr: addr, Subnet: subnet.Name,
		Server: b.serverFor(addr, localAddr(req)), Port: b.o.BootPort,
	}
}

// archOf reads iPXE's own words for what it runs on.
func archOf(req *http.Request) pxe.Arch {
	q := req.URL.Query()
	switch {
	case q.Get("platform") != "efi":
		return pxe.BIOS
	case q.Get("arch") == "arm64":
		return pxe.EFIARM64
	default:
		return pxe.EFIX64
	}
}

// agentScript boots the ramdisk. Its kernel arguments hold the one-use ticket
// of the hello, bound to the address that asked.
func (b boot) agentScript(w http.ResponseWriter, req *http.Request, ask pxe.Request, title string) {
	ticket := noTicket
	if req.Method == http.MethodGet {
		var err error
		if ticket, err = b.o.Engine.MintHello(req.Context(), ask.MAC, ask.Addr); err != nil {
			b.o.Log.ErrorContext(req.Context(), "boot ticket not made", "mac", ask.MAC, "err", err)
			b.sendScript(w, req, made(b.scripts.Wait(title, "the server cannot make a boot ticket now")))
			return
		}
	}
	files := ask.BaseURL() + pxe.PathFiles
	kernel, ramdisk := bootFiles(ask.Arch)
	b.sendScript(w, req, made(b.scripts.Agent(ipxescripts.Agent{
		Title: title, Server: ask.Server.String(), Kernel: files + kernel, Initrd: files + ramdisk,
		Args: b.agentArgs(ask, ticket),
	})))
}

// noTicket stands in the answer to HEAD, which gives nothing away.
var noTicket = strings.Repeat("0", 43)

// agentArgs tell the agent, on the kernel's command line, where its server is
// and who it is itself.
func (s *Server) agentArgs(ask pxe.Request, ticket string) []string {
	return []string{
		api.ArgServer + "=https://" + netip.AddrPortFrom(ask.Server, s.o.AgentPort).String(),
		api.ArgCA + "=" + s.caDigest,
		api.ArgTicket + "=" + ticket,
		api.ArgMAC + "=01-" + strings.ReplaceAll(string(ask.MAC), ":", "-"),
	}
}

var errTooManyTickets = errors.New("too many boot tickets for this address")

// refuseTicket answers an address that has asked for too many tickets. The
// loader's script, and firmware, ask again.
func (b boot) refuseTicket(w http.ResponseWriter, req *http.Request, ask pxe.Request) {
	b.o.Log.WarnContext(req.Context(), "boot ticket refused: too many from this address", "mac", ask.MAC, "addr", ask.Addr)
	w.Header().Set("Retry-After", strconv.Itoa(int(1/ticketRate)))
	http.Error(w, "too many boot tickets for this address", http.StatusTooManyRequests)
}

// autoexec is the script that iPXE asks for by name, before DHCP: it asks for
// the right one. The same for every machine.
func (b boot) autoexec(w http.ResponseWriter, req *http.Request) {
	base := b.bootURL(remoteAddr(req), localAddr(req))
	b.sendScript(w, req, made(b.scripts.AutoExec(base, pxe.PathScript)))
}

// A made script, or why it could not be made.
type scriptResult struct {
	text []byte
	err  error
}

func made(text []byte, err error) scriptResult { return scriptResult{text, err} }

// sendScript answers with a script.
func (b boot) sendScript(w http.ResponseWriter, req *http.Request, script scriptResult) {
	if script.err != nil {
		b.o.Log.ErrorContext(req.Context(), "boot script not made", "addr", remoteAddr(req), "err", script.err)
		http.Error(w, "no script", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(script.text)))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if req.Method == http.MethodGet {
		_, _ = w.Write(script.text) // the machine went away: it asks again
	}
}
