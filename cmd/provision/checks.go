package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/internal/porthold"
	"github.com/rackstage/provision/pxe"
)

// States of a check.
const (
	checkOK      = "ok"
	checkWarning = "warning"
	checkFailed  = "failed"
)

// checks is the one table of what `provision doctor` looks at, on the server.
var checks = []struct {
	area string
	look func(ctx context.Context, st *station) []api.Check
}{
	{"server", checkPorts},
	{"server", checkCapabilities},
	{"server", checkBuffers},
	{"server", checkClock},
	{"server", checkDisk},
	{"server", checkDemo},
	{"net", checkInterfaces},
	{"net", checkSubnets},
	{"net", checkFirewall},
	{"net", checkDNS},
	{"net", checkNeighbours},
	{"net", checkRelays},
	{"net", checkForeign},
	{"net", checkAlarms},
	{"boot", checkLoaderFiles},
	{"boot", checkBootFiles},
}

// doctor looks at everything.
func (st *station) doctor(ctx context.Context) []api.Check {
	var all []api.Check
	for _, c := range checks {
		for _, found := range c.look(ctx, st) {
			found.Area = c.area
			all = append(all, found)
		}
	}
	return all
}

func okay(format string, args ...any) api.Check {
	return api.Check{State: checkOK, Text: fmt.Sprintf(format, args...)}
}

func trouble(state, code, fix, format string, args ...any) api.Check {
	return api.Check{State: state, Code: code, Fix: fix, Text: fmt.Sprintf(format, args...)}
}

// A door is a port that we are to serve.
type door struct {
	network string
	port    int
}

func (st *station) ports() []door {
	all := []door{{"tcp", int(portOf(st.conf.Listen.HTTP))}, {"tcp", int(portOf(st.conf.Listen.HTTPS))}}
	if st.conf.Listen.BootHTTPS != "" {
		all = append(all, door{"tcp", int(portOf(st.conf.Listen.BootHTTPS))})
	}
	if st.dhcp != nil {
		all = append(all, door{"udp", 67}, door{"udp", 69}, door{"udp", 4011}, door{"udp", 547})
	}
	return all
}

// checkPorts finds out whether we hold the ports that we are to serve.
func checkPorts(_ context.Context, st *station) (found []api.Check) {
	var open []string
	for _, w := range st.ports() {
		holder, held := porthold.Find(w.network, w.port)
		name := strings.ToUpper(w.network) + " " + strconv.Itoa(w.port)
		switch {
		case held && holder.PID == os.Getpid():
			open = append(open, name)
		case held:
			found = append(found, trouble(checkFailed, "E-PORT", "stop it, or set another port in provision.yaml", "%s is held by %s", name, holder))
		default:
			found = append(found, trouble(checkFailed, "E-PORT", "restart the server and read its log", "nobody listens on %s", name))
		}
	}
	if len(open) > 0 {
		found = append([]api.Check{okay("%s open", strings.Join(open, ", "))}, found...)
	}
	if st.dhcp == nil {
		found = append(found, trouble(checkWarning, "", "name interfaces in listen.dhcp of provision.yaml", "DHCP and TFTP are off"))
	}
	return found
}

// checkCapabilities reads what the kernel lets us do.
func checkCapabilities(context.Context, *station) []api.Check {
	mask, err := capabilities()
	if err != nil {
		return []api.Check{trouble(checkWarning, "", "", "capabilities not known: %v", err)}
	}
	var has, lacks []string
	for name, bit := range map[string]uint{"NET_BIND_SERVICE": unix.CAP_NET_BIND_SERVICE, "NET_RAW": unix.CAP_NET_RAW} {
		if mask&(1<<bit) != 0 {
			has = append(has, name)
		} else {
			lacks = append(lacks, name)
		}
	}
	slices.Sort(has)
	slices.Sort(lacks)
	if len(lacks) > 0 {
		return []api.Check{trouble(checkFailed, "", "give them: AmbientCapabilities= in the systemd unit, or run as root", "capabilities missing: %s", strings.Join(lacks, " "))}
	}
	return []api.Check{okay("capabilities %s", strings.Join(has, " "))}
}

// capabilities are those in effect, as bits.
func capabilities() (mask uint64, err error) {
	raw, err := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(raw)) {
		if hex, ok := strings.CutPrefix(line, "CapEff:"); ok {
			mask, _ = strconv.ParseUint(strings.TrimSpace(hex), 16, 64) // the kernel wrote it
		}
	}
	return mask, err
}

const (
	littleSpace = 10 << 30
	noSpace     = 1 << 30
)

func checkDisk(_ context.Context, st *station) []api.Check {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(st.conf.StateDir, &fs); err != nil {
		return []api.Check{trouble(checkFailed, "", "", "free space in %s not known: %v", st.conf.StateDir, err)}
	}
	free := int64(fs.Bavail) * fs.Bsize //nolint:gosec // disks are smaller
	const fix = "make room: leases, events and images are kept there"
	switch text := fmt.Sprintf("%s free in %s", bytesOf(free), st.conf.StateDir); {
	case free < noSpace:
		return []api.Check{trouble(checkFailed, "E-DISK-FULL", fix, "%s", text)}
	case free < littleSpace:
		return []api.Check{trouble(checkWarning, "E-DISK-FULL", fix, "%s", text)}
	default:
		return []api.Check{okay("%s", text)}
	}
}

func checkDemo(_ context.Context, st *station) []api.Check {
	if !st.conf.DemoLogin {
		return nil
	}
	host, _, _ := net.SplitHostPort(st.conf.Listen.HTTPS)
	if addr, err := netip.ParseAddr(host); err == nil && addr.IsLoopback() {
		return []api.Check{okay("demo login on, this machine only")}
	}
	return []api.Check{trouble(checkWarning, "", "set demo_login: false in provision.yaml", "demo/demo is on while the server listens beyond this machine")}
}

func checkInterfaces(_ context.Context, st *station) (found []api.Check) {
	if st.dhcp == nil {
		return nil
	}
	for _, name := range st.conf.Listen.DHCP {
		ifc, err := net.InterfaceByName(name)
		if err != nil {
			found = append(found, trouble(checkFailed, "", "see: ip address; name others in listen.dhcp of provision.yaml", "interface %s is gone", name))
			continue
		}
		addrs, err := addrsOf(name)
		switch {
		case ifc.Flags&net.FlagUp == 0:
			found = append(found, trouble(checkFailed, "", "bring it up: ip link set "+name+" up", "interface %s is down", name))
		case err != nil:
			found = append(found, trouble(checkFailed, "", "give it one: ip address add ADDRESS/BITS dev "+name, "interface %s has no IPv4 address", name))
		case !slices.ContainsFunc(addrs, func(a netip.Addr) bool { _, ok := st.engine.Site().SubnetOf(a); return ok }):
			found = append(found, trouble(checkWarning, "", "declare its network under subnets: in site.yaml", "no subnet is declared on interface %s", name))
		default:
			found = append(found, okay("interface %s", name))
		}
	}
	if err := st.dhcp.Blind(); err != nil {
		found = append(found, trouble(checkFailed, fleet.CodeArmBlind, fleet.Diagnose(fleet.CodeArmBlind).FixFor("this server"), "other DHCP servers cannot be seen: %v", err))
	}
	return found
}

// checkSubnets compares what is declared with where we are.
func checkSubnets(_ context.Context, st *station) (found []api.Check) {
	if st.dhcp == nil {
		return nil
	}
	site := st.engine.Site()
	if len(site.Subnets) == 0 {
		return []api.Check{trouble(checkWarning, "", "declare one in site.yaml, then: provision apply -f site.yaml", "no subnet is declared")}
	}
	uses := st.network().Uses()
	for _, n := range site.Subnets {
		iface := st.network().InterfaceOf(n)
		if iface == "" && n.Mode != fleet.Observe {
			found = append(found, trouble(checkWarning, "", helperLine(st, n),
				"no interface of this server is on subnet %s (%s): machines there need a relay", n.Name, n.CIDR))
			continue
		}
		parts := []string{fmt.Sprintf("subnet %s (%s) %s", n.Name, n.CIDR, n.Mode)}
		for _, u := range uses[n.Name] {
			parts = append(parts, fmt.Sprintf("%d of %d addresses free", max(0, u.Size-u.Used-u.Declined), u.Size))
		}
		found = append(found, okay("%s", strings.Join(parts, ", ")))
	}
	return found
}

// helperLine is what to write into a router.
func helperLine(st *station, n fleet.Subnet) string {
	addr := "THIS-SERVER"
	for _, name := range st.conf.Listen.DHCP {
		if addrs, err := addrsOf(name); err == nil {
			addr = addrs[0].String()
			break
		}
	}
	return fmt.Sprintf("on the router of %s: ip helper-address %s", n.Name, addr)
}

func checkForeign(_ context.Context, st *station) (found []api.Check) {
	if st.dhcp == nil {
		return nil
	}
	for _, f := range st.dhcp.ForeignServers() {
		what := "DHCP server"
		if f.Router {
			what = "router"
		}
		switch {
		case f.Expected && f.Subnet != "":
			found = append(found, okay("%s %s on subnet %s belongs there: %s", what, f.Name(), f.Subnet, f.Words()))
		case f.Subnet == "" && !f.Router:
			found = append(found, trouble(checkWarning, "", "declare the network in site.yaml, mode proxy stands beside it", "%s %s on an undeclared network: %s", what, f.Name(), f.Words()))
		}
	}
	return found // those that do not belong are alarms
}

// warnings are the alarms that announce trouble rather than being it.
var warnings = []string{fleet.CodePoolForecast, fleet.CodeUnknownShare, fleet.CodeReservedHeld, fleet.CodeConflict}

func checkAlarms(_ context.Context, st *station) (found []api.Check) {
	alarms := st.engine.Alarms()
	for _, a := range alarms {
		if a.Code == fleet.CodeBootFile || a.Code == fleet.CodeNoLoader && strings.HasPrefix(a.On, loaderOn) {
			continue // we look for ourselves
		}
		d, state := fleet.Diagnose(a.Code), checkFailed
		if slices.Contains(warnings, a.Code) {
			state = checkWarning
		}
		text := d.Title + ": " + a.On
		if a.Detail != "" {
			text += " (" + a.Detail + ")"
		}
		found = append(found, trouble(state, a.Code, d.FixFor(a.On), "%s", text))
	}
	if len(alarms) == 0 {
		found = append(found, okay("no alarms"))
	}
	return found
}

// checkLoaderFiles looks for what machines are told to load; whether kernel and
// ramdisk are served as well, checkBootFiles finds out.
func checkLoaderFiles(_ context.Context, st *station) (found []api.Check) {
	site := st.engine.Site()
	var lacks []string
	for _, w := range st.missing(site) {
		if w.code == fleet.CodeNoLoader {
			lacks = append(lacks, filepath.Base(w.file))
			continue
		}
		found = append(found, trouble(checkFailed, w.code, fleet.Diagnose(w.code).FixFor(w.on), "%s is not in %s", w.file, st.conf.StateDir))
	}
	if have := len(pxe.Loaders()) - len(lacks); have > 0 {
		found = append(found, okay("%s in place", plural(have, "loader")))
	}
	if len(lacks) > 0 {
		names := strings.Join(lacks, ", ")
		found = append(found, trouble(checkFailed, fleet.CodeNoLoader, fleet.Diagnose(fleet.CodeNoLoader).FixFor(names), "%s missing: %s", plural(len(lacks), "loader"), names))
	}
	return found
}

// checkBootFiles fetches what machines fetch, as they do: HEAD, then GET.
func checkBootFiles(ctx context.Context, st *station) []api.Check {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	host, port, _ := net.SplitHostPort(st.conf.Listen.HTTP)
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = "127.0.0.1"
	}
	var found, bad []api.Check
	for _, name := range []string{"vmlinuz", "initrd.img"} {
		for _, method := range []string{http.MethodHead, http.MethodGet} {
			if err := fetchHead(ctx, method, "http://"+net.JoinHostPort(host, port)+pxe.PathFiles+name); err != nil {
				bad = append(bad, trouble(checkFailed, fleet.CodeBootFile, "build it: provision images build debian-12", "%s of %s: %v", method, name, err))
				break
			}
		}
	}
	if len(bad) == 0 {
		found = append(found, okay("kernel and ramdisk are served (HEAD and GET)"))
	}
	return append(found, bad...)
}

// fetchHead asks for a file, of which it reads nothing but the head.
func fetchHead(ctx context.Context, method, url string) error {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK || res.ContentLength <= 0 {
		return fmt.Errorf("status %s, %d bytes", res.Status, res.ContentLength)
	}
	return nil
}
