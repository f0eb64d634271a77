package http

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"github.com/rackstage/provision/fleet"
	ipxescripts "github.com/rackstage/provision/ipxe-scripts"
	"github.com/rackstage/provision/pxe"
)

// A choice is what iPXE asks for beside "whatever you decide": somebody chose
// it in the menu, or a script ended in it.
type choice string

const (
	doDecide  choice = ""
	doGo      choice = "go" // decide, and show no menu
	doAgent   choice = "agent"
	doLocal   choice = "local"
	doMenu    choice = "menu"
	doMemTest choice = "memtest"
	doCustom  choice = "custom" // the operator's script; nobody asks for it
	doWait    choice = "wait"   // nothing; nobody asks for it
)

// A visit is a machine that asks for a script, and all that the answer depends
// on.
type visit struct {
	ask    pxe.Request
	front  *front
	node   fleet.Node
	site   fleet.Site
	subnet fleet.Subnet
	plan   pxe.Plan
	title  string
	do     choice // what it asks for
	sure   bool   // it holds a lease of ours, so that it is the machine that it says
	dry    bool   // nothing is to come of it: no ticket, no link
}

// script answers iPXE with what its machine shall do.
func (b boot) script(w http.ResponseWriter, req *http.Request) {
	q := readBootQuery(req.URL.RawQuery)
	addr := remoteAddr(req)
	mac, ok := b.machineAt(req.Context(), addr, q.MAC)
	if !ok {
		b.sendScript(w, req, made(b.scripts.Wait("this machine", b.unknownAt(addr, q.MAC))))
		return
	}
	v := b.visitor(addr, b.serverFor(addr, localAddr(req)), mac, q)
	v.dry = req.Method != http.MethodGet
	if b.byTLS(req) {
		v.ask.Secure, v.ask.Port = true, b.o.BootHTTPS
		v.front = b.frontFor(frontKey{v.ask.Server, true})
	}
	do := b.choose(v)
	if (do == doAgent || do == doCustom) && !v.dry && !b.tickets.Allow(addr) {
		b.refuseTicket(w, req, v.ask)
		return
	}
	buf := b.spare.Get().(*scriptBuffer)
	defer b.spare.Put(buf)
	text, err := b.compose(req.Context(), buf.b[:0], v, do)
	b.sendScript(w, req, made(text, err))
	if cap(text) <= maxSpare {
		buf.b = text
	}
	if !v.dry && err == nil {
		b.o.Engine.Observe(fleet.Evidence{
			At: b.o.Now(), MAC: mac, Phase: fleet.PhaseScript,
			Detail: "GET " + scriptWord(v.plan, do) + " script from " + addr.String(),
		})
	}
}

// A scriptBuffer is used for one script after the other.
type scriptBuffer struct{ b []byte }

const maxSpare = 16 << 10

func scriptWord(plan pxe.Plan, do choice) string {
	switch do {
	case doMenu, doMemTest, doCustom:
		return string(do)
	default:
		return string(plan.Action)
	}
}

// visitor collects what the answer to a machine depends on.
func (s *Server) visitor(addr, server netip.Addr, mac fleet.MAC, q bootQuery) *visit {
	v := &visit{site: s.o.Engine.Site(), front: s.front(server), do: q.Do}
	v.node, _ = s.o.Engine.NodeByMAC(mac)
	v.subnet, _ = v.site.SubnetOf(addr)
	v.ask = pxe.Request{
		MAC: mac, UUID: q.UUID, Firmware: pxe.IPXE, Arch: q.Arch, Addr: addr, Subnet: v.subnet.Name, Server: server, Port: s.o.BootPort,
	}
	v.plan = pxe.Decide(v.ask, v.node)
	v.sure = s.leasedTo(mac, addr)
	if v.title = v.node.Title(); v.title == "" {
		v.title = string(mac)
	}
	return v
}

// choose says which script a machine gets. What it asks for counts as far as
// the plan for it allows: a machine that is to get nothing gets nothing, and
// one that has a system boots that, tests its memory, or shows the menu.
func (b boot) choose(v *visit) choice {
	local := v.plan.File == pxe.ScriptLocal
	switch {
	case !local && v.plan.File != pxe.ScriptAgent:
		return doWait
	case v.do == doMemTest && b.memTest(v.ask) != "":
		return doMemTest
	case v.do == doMenu, v.do == doDecide && v.site.ShowsMenu(v.node, v.subnet):
		return doMenu
	case local || v.do == doLocal:
		return doLocal
	case v.do == doAgent:
		return doAgent
	}
	if _, ok := v.site.ScriptFor(v.node, v.ask.MAC); ok {
		return doCustom
	}
	return doAgent
}

// compose puts a script behind dst.
func (b boot) compose(ctx context.Context, dst []byte, v *visit, do choice) ([]byte, error) {
	switch do {
	case doMenu:
		return b.scripts.Menu(b.menuFor(v)), nil
	case doMemTest:
		return b.scripts.MemTest(v.title, b.memTest(v.ask)), nil
	case doLocal:
		return b.scripts.Local(v.title, v.front.menu+dashed(v.ask.MAC))
	case doCustom:
		script, _ := v.site.ScriptFor(v.node, v.ask.MAC)
		text, err := b.custom(v, script)
		if err != nil {
			b.o.Log.ErrorContext(ctx, "custom script not made", "mac", v.ask.MAC, "script", script.Name, "err", err)
			return b.scripts.Wait(v.title, "its script "+script.Name+" cannot be filled in: see the server's log")
		}
		return text, nil
	case doAgent:
		return b.agentScript(ctx, dst, v)
	default:
		return b.scripts.Wait(v.title, v.plan.Reason)
	}
}

// agentScript boots the ramdisk. Its kernel arguments hold the one-use ticket
// of the hello, bound to the address that asked.
func (b boot) agentScript(ctx context.Context, dst []byte, v *visit) ([]byte, error) {
	ticket := noTicket
	if !v.dry {
		var err error
		if ticket, err = b.o.Engine.MintHello(ctx, v.ask.MAC, v.ask.Addr); err != nil {
			b.o.Log.ErrorContext(ctx, "boot ticket not made", "mac", v.ask.MAC, "err", err)
			return b.scripts.Wait(v.title, "the server cannot make a boot ticket now")
		}
	}
	kernel, ramdisk := bootFiles(v.ask.Arch)
	return b.scripts.AppendAgent(dst, ipxescripts.Agent{
		Title: v.title, Server: v.front.name, Kernel: v.front.files + kernel, Initrd: v.front.files + ramdisk,
		Menu: v.front.menu + dashed(v.ask.MAC), Args: v.front.agentArgs(v.ask.MAC, ticket),
	})
}

// noTicket stands in the answer to HEAD, which gives nothing away.
var noTicket = strings.Repeat("0", 43)

// dashed writes a MAC address as URLs and PXELINUX have it.
func dashed(mac fleet.MAC) string { return strings.ReplaceAll(string(mac), ":", "-") }

var errTooManyTickets = errors.New("too many boot tickets for this address")

// refuseTicket answers an address that has asked for too many tickets. The
// loader's script, and firmware, ask again.
func (b boot) refuseTicket(w http.ResponseWriter, req *http.Request, ask pxe.Request) {
	b.counts.ticketsRefused.Add(1)
	b.o.Log.DebugContext(req.Context(), "boot ticket refused: too many from this address", "mac", ask.MAC, "addr", ask.Addr)
	w.Header().Set("Retry-After", strconv.Itoa(int(1/ticketRate)))
	http.Error(w, "too many boot tickets for this address", http.StatusTooManyRequests)
}

// autoexec is the script that iPXE asks for by name, before DHCP: it asks for
// the right one. The same for every machine.
func (b boot) autoexec(w http.ResponseWriter, req *http.Request) {
	base := b.bootURL(remoteAddr(req), localAddr(req))
	if b.byTLS(req) {
		base = pxe.Request{Server: b.serverFor(remoteAddr(req), localAddr(req)), Port: b.o.BootHTTPS, Secure: true}.BaseURL()
	}
	b.sendScript(w, req, made(b.scripts.AutoExec(base, pxe.PathScript)))
}

// byTLS reports whether a request came in by the boot listener with TLS. What
// comes from there stays there: iPXE trusts whom its firmware trusts.
func (b boot) byTLS(req *http.Request) bool {
	local, ok := req.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok || b.o.BootHTTPS == 0 {
		return false
	}
	at, err := netip.ParseAddrPort(local.String())
	return err == nil && at.Port() == b.o.BootHTTPS
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
	b.counts.scripts.Add(1)
	h := w.Header()
	h["Content-Type"], h["Cache-Control"], h["X-Content-Type-Options"] = plainText, noStore, noSniff
	h["Content-Length"] = []string{strconv.Itoa(len(script.text))}
	if req.Method == http.MethodGet {
		_, _ = w.Write(script.text) // the machine went away: it asks again
	}
}

// Values of headers, which are never changed: Header.Set would make each of
// them anew for every script.
var (
	plainText = []string{"text/plain; charset=utf-8"}
	noStore   = []string{"no-store"}
	noSniff   = []string{"nosniff"}
)
