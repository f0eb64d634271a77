package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/lab"
)

// newSubnets say nothing about what is to be done on them.
const newSubnets = `
subnets:
  - {name: rack, cidr: 10.77.0.0/24, ranges: [10.77.0.100-10.77.0.120]}
  - {name: rack6, cidr: "fd77::/64", ranges: ["fd77::1000-fd77::1fff"]}
`

// theOther is a dnsmasq that gives addresses of both families, and is a router
// that has machines make IPv6 addresses of their own.
var theOther = []string{
	"dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--pid-file", "--port=0", "--log-dhcp", "--log-facility=-",
	"--interface=" + lab.EdgeUplink, "--bind-interfaces", "--enable-ra", "--dhcp-range=10.77.0.150,10.77.0.160,10m", "--dhcp-range=fd77::2000,fd77::20ff,slaac,64,10m",
}

// From the wire to what an operator reads: another server is named while it
// answers, new subnets only observe, and they are armed beside it by force
// alone.
func TestAnotherServerIsNamedAndKeepsSubnetsFromBeingArmed(t *testing.T) {
	if testing.Short() {
		t.Skip("takes two minutes: make test runs it")
	}
	t.Parallel()
	state, program := testImages(t)
	machine := lab.Machine{Name: "edge", Firmware: lab.BIOS, MAC: "52:54:00:78:00:01", Remote: true} // stays off: there is an edge for it
	r := prepareTestRack(t, labPlan{state: state, machines: []lab.Machine{machine}, site: newSubnets, hook: program}, func(r *labRack) error {
		return errors.Join(
			r.rack.Command(t.Context(), "ip", "address", "add", "fd77::1/64", "dev", lab.Bridge, "nodad").Run(),
			r.rack.EdgeCommand(t.Context(), "ip", "address", "add", "fd77::2/64", "dev", lab.EdgeUplink, "nodad").Run(),
		)
	})
	stop := startNeighbour(t, r)
	p := operator{t, r}
	if out, code := p.says("apply", "-f", p.site(newSubnets), "-y"); code != exitOK {
		t.Fatalf("apply: exit code %d\n%s", code, out)
	}
	mac, local := cardOf(t, r)
	p.await(time.Minute, "alarms",
		"10.77.0.254 on subnet rack another DHCP server answers, "+mac+" on rack0, offers 10.77.0.1", "turn that server off",
		local+" on subnet rack6 another DHCP server answers, "+mac+" on rack0, DUID 000")
	first := alarmOn(t.Context(), t, r, local+" on subnet rack6")
	if out, _ := p.says("subnets", "list", "-o", "wide"); !has(out, "observe", "✗ 10.77.0.254", "✗ "+local, local+" (router)", mac+" on rack0", "offers 10.77.0.1", "offers fd77::20") {
		t.Errorf("subnets list does not name it:\n%s", out)
	}
	if out, _ := p.says("doctor", "net"); !has(out, "E-DHCP-ROGUE", "another DHCP server answers: 10.77.0.254", "router "+local+" on subnet rack6 belongs there") {
		t.Errorf("doctor does not name it:\n%s", out)
	}
	checkObserves(t, r)

	for subnet, name := range map[string]string{"rack,": "10.77.0.254", "rack6,": local} {
		armed := p.site(strings.ReplaceAll(newSubnets, "name: "+subnet, "mode: full, name: "+subnet))
		if out, code := p.says("apply", "-f", armed, "-y"); code != exitConflict || !has(out, "another DHCP server answers there: "+name+" ("+mac+" on rack0", "--force-dhcp") {
			t.Errorf("arming %s beside it: exit code %d, want %d and why\n%s", subnet, code, exitConflict, out)
		}
	}
	armed := p.site(strings.ReplaceAll(newSubnets, "name: ", "mode: full, name: "))
	if out, code := p.says("apply", "-f", armed, "-y", "--force-dhcp"); code != exitOK {
		t.Errorf("arming by force: exit code %d\n%s", code, out)
	}
	p.await(time.Minute, "alarms", "E-RA-ROGUE", local+" on subnet rack6 another router's advertisements are against what this server serves, it lets machines make addresses of fd77::/64, where slaac is off")
	p.await(time.Minute, "subnets", "full", "✗ "+local+" (router)")
	until(t, time.Minute, "the alarm is raised again", func(ctx context.Context) (bool, error) {
		return alarmOn(ctx, t, r, local+" on subnet rack6").Count > first.Count, nil
	})
	if again := alarmOn(t.Context(), t, r, local+" on subnet rack6"); !again.Since.Equal(first.Since) {
		t.Errorf("the alarm stands since %s, want all the time since %s", again.Since, first.Since)
	}

	stop()
	begin := time.Now()
	p.await(2*time.Minute, "alarms", "no alarms")
	t.Logf("no alarms %s after it has stopped", time.Since(begin).Round(time.Second))
	if out, _ := p.says("subnets", "list"); has(out, "✗") {
		t.Errorf("it is still named:\n%s", out)
	}
	checkExhausted(t, p)
}

// checkExhausted gives the only address away, and has another machine ask.
func checkExhausted(t *testing.T, p operator) {
	t.Helper()
	one := strings.ReplaceAll(newSubnets, "ranges: [10.77.0.100-10.77.0.120]", "mode: full, unknown_share: 100, ranges: [10.77.0.100-10.77.0.100]")
	if out, code := p.says("apply", "-f", p.site(one), "-y"); code != exitOK {
		t.Fatalf("arming where nobody answers any more: exit code %d\n%s", code, out)
	}
	if out, err := asksForAddress(t, p.r).CombinedOutput(); err != nil {
		t.Errorf("the first machine got no address: %v\n%s", err, out)
	}
	if err := p.r.rack.EdgeCommand(t.Context(), "ip", "link", "set", lab.EdgeUplink, "address", "52:54:00:78:00:99").Run(); err != nil {
		t.Fatal(err)
	}
	if out, err := asksForAddress(t, p.r).CombinedOutput(); err == nil {
		t.Errorf("the second machine got an address:\n%s", out)
	}
	p.await(30*time.Second, "alarms", "E-DHCP-POOL-EXHAUSTED", "subnet rack no address is free, no address for 52:54:00:78:00:99", "add a range to the subnet in site.yaml")
	if out, code := p.says("doctor", "net"); code != exitFailed || !has(out, "✗ E-DHCP-POOL-EXHAUSTED no address is free: subnet rack", "fix: add a range to the subnet") {
		t.Errorf("doctor, exit code %d:\n%s", code, out)
	}
}

// asksForAddress is a machine on the edge that asks twice.
func asksForAddress(t *testing.T, r *labRack) *exec.Cmd {
	t.Helper()
	return r.rack.EdgeCommand(t.Context(), "busybox", "udhcpc", "-i", lab.EdgeUplink, "-n", "-q", "-f", "-t", "3", "-T", "1", "-s", "/bin/true")
}

// An operator types commands of the real program, and reads what it says.
type operator struct {
	t *testing.T
	r *labRack
}

func (p operator) says(args ...string) (out string, code int) {
	p.t.Helper()
	return p.saysWithin(p.t.Context(), args...)
}

func (p operator) saysWithin(ctx context.Context, args ...string) (out string, code int) {
	p.t.Helper()
	cmd := exec.CommandContext(ctx, p.r.program, append(args, "--server", "unix:"+p.r.socket())...) //nolint:gosec // ours
	both, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	return strings.Join(strings.Fields(string(both)), " "), cmd.ProcessState.ExitCode()
}

// await lists things of a kind until the list has all of these words.
func (p operator) await(limit time.Duration, noun string, words ...string) {
	p.t.Helper()
	last := ""
	p.t.Cleanup(func() {
		if p.t.Failed() && !has(last, words...) {
			p.t.Logf("%s list said, without %q:\n%s", noun, words, last)
		}
	})
	until(p.t, limit, noun+" list", func(ctx context.Context) (bool, error) {
		said, _ := p.saysWithin(ctx, noun, "list", "-o", "wide")
		if ctx.Err() == nil {
			last = said
		}
		return has(said, words...), nil
	})
}

func (p operator) site(text string) string {
	p.t.Helper()
	name := filepath.Join(p.t.TempDir(), "site.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return name
}

// has reports whether all words are in a text, the columns of a table one
// space apart.
func has(text string, words ...string) bool {
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

// startNeighbour runs the other server on the rack's edge until stop is called.
func startNeighbour(t *testing.T, r *labRack) (stop func()) {
	t.Helper()
	cmd := r.rack.EdgeCommand(context.WithoutCancel(t.Context()), append(theOther, "--dhcp-leasefile="+filepath.Join(r.dir, "dnsmasq.leases"))...)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := r.rack.Start(cmd); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if !stopped {
			_ = cmd.Process.Signal(syscall.SIGTERM)
			_ = cmd.Wait()
		}
		stopped = true
	}
	t.Cleanup(func() {
		if stop(); t.Failed() {
			t.Logf("dnsmasq:\n%s", tail(log.Bytes(), 30))
		}
	})
	return stop
}

// cardOf returns the other server's hardware address and its address of the
// link.
func cardOf(t *testing.T, r *labRack) (mac, local string) {
	t.Helper()
	out, err := r.rack.EdgeCommand(t.Context(), "ip", "-json", "address", "show", "dev", lab.EdgeUplink).Output()
	var cards []struct {
		Address string
		Info    []struct{ Local string } `json:"addr_info"`
	}
	if err := errors.Join(err, json.Unmarshal(out, &cards)); err != nil || len(cards) != 1 {
		t.Fatalf("cards %s: %v", out, err)
	}
	for _, a := range cards[0].Info {
		if addr, err := netip.ParseAddr(a.Local); err == nil && addr.Is6() && addr.IsLinkLocalUnicast() {
			local = a.Local
		}
	}
	return cards[0].Address, local
}

func alarmOn(ctx context.Context, t *testing.T, r *labRack, on string) api.Alarm {
	t.Helper()
	alarms, err := r.client.Alarms(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range alarms {
		if a.On == on && a.Code == "E-DHCP-ROGUE" {
			return a
		}
	}
	t.Fatalf("no alarm on %s: %+v", on, alarms)
	return api.Alarm{}
}

// checkObserves has a machine ask for an address where nobody has armed
// anything: we hear it, and say nothing.
func checkObserves(t *testing.T, r *labRack) {
	t.Helper()
	if out, err := asksForAddress(t, r).CombinedOutput(); err == nil { // its own server does not hear it
		t.Errorf("somebody gave an address:\n%s", out)
	}
	n, err := r.client.Counters(t.Context())
	if err != nil || n["provision_dhcp_observed_total"] == 0 || n["provision_dhcp_offers_total"]+n["provision_dhcp6_advertises_total"]+n["provision_dhcp6_advertisements_total"] != 0 {
		t.Errorf("counters %v, %v; want the request observed, and nothing said", n, err)
	}
}
