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
	doRescue  choice = "rescue"
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
	grub   grubEnd // when GRUB asks
	do     choice  // what it asks for
	dry    bool    // nothing is to come of it: no ticket, no link
}

// A scriptAsk is a request for a script, whoever has read it.
type scriptAsk struct {
	addr, local netip.Addr // the machine's, and ours
	query       string     // of the URL
	secure      bool       // it came by TLS
	dry         bool       // HEAD
}

// A scriptAnswer is what comes of it.
type scriptAnswer struct {
	status int
	text   []byte
}

// script answers iPXE with what its machine shall do.
func (b boot) script(w http.ResponseWriter, req *http.Request) {
	buf := b.spare.Get().(*scriptBuffer) //nolint:forcetypeassert // nothing else is in it
	defer b.spare.Put(buf)
	r := b.scriptFor(req.Context(), buf, scriptAsk{
		addr: remoteAddr(req), local: localAddr(req), query: req.URL.RawQuery, secure: b.byTLS(req), dry: req.Method != http.MethodGet,
	})
	if r.status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", retryTicket)
	}
	send(w, req, r)
	buf.keep(r.text)
}

// scriptFor makes the answer to a request for a script, in buf if there is
// room.
func (b boot) scriptFor(ctx context.Context, buf *scriptBuffer, a scriptAsk) scriptAnswer {
	q := readBootQuery(a.query)
	mac, ok := b.machineAt(ctx, a.addr, q.MAC)
	if !ok {
		text, err := b.scripts.Wait("this machine", b.unknownAt(a.addr, q.MAC))
		return b.made(ctx, a.addr, text, err)
	}
	v := &buf.visit
	*v = visit{dry: a.dry}
	b.fill(v, pxe.IPXE, a.addr, b.serverFor(a.addr, a.local), mac, q)
	if a.secure {
		b.fillSecure(v)
	}
	do := b.settle(ctx, v)
	if (do == doAgent || do == doCustom) && !v.dry && !b.tickets.allow(v.node, a.addr) {
		return b.refuseTicket(ctx, v.ask)
	}
	text, err := b.compose(ctx, buf.b[:0], v, do)
	if !v.dry && err == nil {
		b.o.Engine.Observe(fleet.Evidence{
			At: b.o.Now(), MAC: mac, Phase: fleet.PhaseScript,
			Detail: "GET " + scriptWord(v.plan, do) + " script from " + a.addr.String(),
		})
	}
	return b.made(ctx, a.addr, text, err)
}

// A scriptBuffer is used for one script after the other.
type scriptBuffer struct {
	b     []byte
	visit visit
}

const maxSpare = 16 << 10

// keep keeps the memory of a script that was sent.
func (buf *scriptBuffer) keep(text []byte) {
	if cap(text) <= maxSpare {
		buf.b = text
	}
}

func scriptWord(plan pxe.Plan, do choice) string {
	switch do {
	case doMenu, doMemTest, doCustom, doRescue:
		return string(do)
	default:
		return string(plan.Action)
	}
}

// fill collects what the answer to a machine depends on.
func (s *Server) fill(v *visit, loader pxe.Firmware, addr, server netip.Addr, mac fleet.MAC, q bootQuery) {
	v.site, v.front, v.do = s.o.Engine.Site(), s.front(server), q.Do
	v.node, _ = s.o.Engine.NodeByMAC(mac)
	v.subnet, _ = v.site.SubnetOf(addr)
	v.ask = pxe.Request{
		MAC: mac, UUID: q.UUID, Firmware: loader, Arch: q.Arch, Addr: addr, Subnet: v.subnet.Name, Server: server, Port: s.o.BootPort,
	}
	v.plan = pxe.Decide(v.ask, v.node)
	if v.title = v.node.Title(); v.title == "" {
		v.title = string(mac)
	}
}

// fillSecure has all that a machine is told to fetch come by TLS.
func (s *Server) fillSecure(v *visit) {
	v.ask.Secure, v.ask.Port = true, s.o.BootHTTPS
	v.front = s.frontFor(frontKey{v.ask.Server, true})
}

// settle says which script a machine gets, after the rescue system was ended or
// begun where that is what its asking means.
func (b boot) settle(ctx context.Context, v *visit) choice {
	if v.dry || !v.node.Rescue.Once && v.do != doRescue || !b.leasedTo(v.ask.MAC, v.ask.Addr) {
		return b.choose(v)
	}
	if v.node.Rescue.Once && v.do != doMenu && v.do != doMemTest && v.do != doRescue {
		b.o.Engine.EndRescueOnce(ctx, v.ask.MAC)
		v.node, _ = b.o.Engine.NodeByMAC(v.ask.MAC)
		v.plan = pxe.Decide(v.ask, v.node)
	}
	do := b.choose(v)
	// Beginning it is a write, so that it is limited as tickets are; it ends no
	// more often than it begins.
	if do == doRescue && v.plan.File != pxe.ScriptRescue && (!b.tickets.allow(v.node, v.ask.Addr) || !b.o.Engine.RescueOnce(ctx, v.ask.MAC)) {
		v.do = doGo
		return b.choose(v)
	}
	return do
}

// choose says which script a machine gets. What it asks for counts as far as
// the plan for it allows: a machine that is to get nothing gets nothing, and
// one that has a system boots that, tests its memory, or shows the menu. So
// does one that an operator has put into the rescue system.
func (b boot) choose(v *visit) choice {
	local, rescue := v.plan.File == pxe.ScriptLocal, v.plan.File == pxe.ScriptRescue
	switch {
	case !local && !rescue && v.plan.File != pxe.ScriptAgent:
		return doWait
	case v.do == doMemTest && b.memTest(v.ask) != "":
		return doMemTest
	case v.do == doMenu, v.do == doDecide && v.site.ShowsMenu(&v.node, &v.subnet):
		return doMenu
	case local || v.do == doLocal:
		return doLocal
	case rescue, v.do == doRescue && b.offersRescue(v):
		return doRescue
	case v.do == doAgent:
		return doAgent
	}
	if _, ok := v.script(); ok {
		return doCustom
	}
	return doAgent
}

// script is the operator's own for this machine, in the language that it reads.
func (v *visit) script() (fleet.Script, bool) {
	script, ok := v.site.ScriptFor(v.node, v.ask.MAC)
	return script, ok && textOf(script, v.ask.Firmware) != ""
}

func textOf(script fleet.Script, loader pxe.Firmware) string {
	if loader == pxe.GRUB {
		return script.GRUB
	}
	return script.IPXE
}

// compose puts a script behind dst.
func (b boot) compose(ctx context.Context, dst []byte, v *visit, do choice) ([]byte, error) {
	switch do {
	case doMenu:
		return b.scripts.Menu(b.menuFor(v)), nil
	case doMemTest:
		return b.scripts.MemTest(v.title, b.memTest(v.ask)), nil
	case doLocal:
		return b.scripts.AppendLocal(dst, v.title, v.front.menuOf(v.ask.MAC)), nil
	case doCustom:
		text, fault := b.customScript(ctx, v)
		if fault != "" {
			return b.scripts.Wait(v.title, fault)
		}
		return text, nil
	case doRescue:
		ramdisk, fault := b.rescueRamdisk(v)
		if fault != "" {
			return b.scripts.Wait(v.title, fault)
		}
		return b.scripts.Rescue(ramdisk)
	case doAgent:
		return b.agentScript(ctx, dst, v)
	default:
		return b.scripts.Wait(v.title, v.plan.Reason)
	}
}

// customScript fills the operator's script in, or says what a machine is told
// instead: no more than which script is wrong.
func (b boot) customScript(ctx context.Context, v *visit) (text []byte, fault string) {
	script, _ := v.script()
	text, err := b.custom(v, script)
	if err != nil {
		b.o.Log.ErrorContext(ctx, "custom script not made", "mac", v.ask.MAC, "script", script.Name, "err", err)
		return nil, "its script " + script.Name + " cannot be filled in: see the server's log"
	}
	return text, ""
}

// ticket makes the one-use ticket of the hello, bound to the address that asked.
func (b boot) ticket(ctx context.Context, v *visit) (ticket, fault string) {
	if v.dry {
		return noTicket, ""
	}
	ticket, err := b.o.Engine.MintHello(ctx, v.ask.MAC, v.ask.Addr)
	if err != nil {
		b.o.Log.ErrorContext(ctx, "boot ticket not made", "mac", v.ask.MAC, "err", err)
		return "", "the server cannot make a boot ticket now"
	}
	return ticket, ""
}

// agentScript boots the ramdisk. Its kernel arguments hold the ticket.
func (b boot) agentScript(ctx context.Context, dst []byte, v *visit) ([]byte, error) {
	ticket, fault := b.ticket(ctx, v)
	if fault != "" {
		return b.scripts.Wait(v.title, fault)
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

// retryTicket is when a machine may have the next ticket, in seconds.
var retryTicket = strconv.Itoa(int(1 / nodeRate))

// refuseTicket answers an address that has asked for too many tickets. The
// loader's script, and firmware, ask again.
func (b boot) refuseTicket(ctx context.Context, ask pxe.Request) scriptAnswer {
	b.counts.ticketsRefused.Add(1)
	b.o.Log.DebugContext(ctx, "boot ticket refused: too many from this address", "mac", ask.MAC, "addr", ask.Addr)
	return scriptAnswer{http.StatusTooManyRequests, []byte("too many boot tickets for this address\n")}
}

// autoexec is the script that iPXE asks for by name, before DHCP: it asks for
// the right one. The same for every machine.
func (b boot) autoexec(w http.ResponseWriter, req *http.Request) {
	base := b.bootURL(remoteAddr(req), localAddr(req))
	if b.byTLS(req) {
		base = pxe.Request{Server: b.serverFor(remoteAddr(req), localAddr(req)), Port: b.o.BootHTTPS, Secure: true}.BaseURL()
	}
	text, err := b.scripts.AutoExec(base, pxe.PathScript)
	send(w, req, b.made(req.Context(), remoteAddr(req), text, err))
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

// byHTTPS reports whether a machine's firmware is told to boot by that listener.
func (s *Server) byHTTPS(machine netip.Addr) bool {
	return s.o.BootHTTPS != 0 && s.o.ByHTTPS != nil && s.o.ByHTTPS(machine)
}

// made is the answer with a script, or without one when err says why.
func (b boot) made(ctx context.Context, addr netip.Addr, text []byte, err error) scriptAnswer {
	if err != nil {
		b.o.Log.ErrorContext(ctx, "boot script not made", "addr", addr, "err", err)
		return scriptAnswer{http.StatusInternalServerError, []byte("no script\n")}
	}
	b.counts.scripts.Add(1)
	return scriptAnswer{http.StatusOK, text}
}

// send answers with a script.
func send(w http.ResponseWriter, req *http.Request, r scriptAnswer) {
	h := w.Header()
	h["Content-Type"], h["Cache-Control"], h["X-Content-Type-Options"] = plainText, noStore, noSniff
	h["Content-Length"] = []string{strconv.Itoa(len(r.text))}
	w.WriteHeader(r.status)
	if req.Method == http.MethodGet {
		_, _ = w.Write(r.text) // the machine went away: it asks again
	}
}

// Values of headers, which are never changed: Header.Set would make each of
// them anew for every script.
var (
	plainText = []string{"text/plain; charset=utf-8"}
	noStore   = []string{"no-store"}
	noSniff   = []string{"nosniff"}
)
