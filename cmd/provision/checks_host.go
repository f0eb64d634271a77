package main

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

// What the host must be able to do for a rack that is switched on at once.

const (
	procSys      = "/proc/sys/net/"
	racksBuffer  = 8 << 20     // bytes: what DHCP and TFTP ask for
	noClockAhead = time.Minute // the newest event may be so far in the future
)

// checkClock finds a clock that cannot be right: certificates, leases and
// tickets hang on it.
func checkClock(ctx context.Context, st *station) []api.Check {
	var newest time.Time
	if last := st.engine.LastEvent(); last > 0 {
		if events, err := st.engine.Events(ctx, last-1, 1); err == nil && len(events) > 0 {
			newest = events[0].At
		}
	}
	found := []api.Check{judgeClock(time.Now(), newest)}
	if state, err := unix.Adjtimex(&unix.Timex{}); err == nil {
		found = append(found, judgeSync(state)...)
	}
	return found
}

// judgeSync says whether anything keeps the clock right, by what the kernel
// was told.
func judgeSync(state int) []api.Check {
	if state != unix.TIME_ERROR {
		return nil
	}
	return []api.Check{trouble(checkWarning, "E-CLOCK", "let something keep it right: timedatectl set-ntp true, or install chrony", "nothing keeps the clock of this host right: the kernel calls it unsynchronised")}
}

func judgeClock(now, newest time.Time) api.Check {
	const fix = "set the clock, then keep it right: timedatectl set-ntp true"
	switch {
	case now.Year() < 2025:
		return trouble(checkFailed, "E-CLOCK", fix, "the clock says %s", now.UTC().Format(time.DateTime))
	case newest.After(now.Add(noClockAhead)):
		return trouble(checkFailed, "E-CLOCK", fix, "the clock says %s, and the newest event is of %s", now.UTC().Format(time.DateTime), newest.UTC().Format(time.DateTime))
	default:
		return okay("clock %s", now.UTC().Format("2006-01-02 15:04 UTC"))
	}
}

// checkBuffers finds out whether the packets of a rack fit into the sockets'
// buffers: with CAP_NET_ADMIN they may be larger than the system's limit.
func checkBuffers(_ context.Context, st *station) []api.Check {
	if st.dhcp == nil {
		return nil
	}
	mask, err := capabilities()
	if err != nil || mask&(1<<unix.CAP_NET_ADMIN) != 0 {
		return nil
	}
	return judgeBuffer(procSys)
}

func judgeBuffer(sys string) []api.Check {
	limit, err := readNumber(sys + "core/rmem_max")
	if err != nil || limit >= racksBuffer {
		return nil
	}
	return []api.Check{trouble(checkWarning, "E-BUFFER",
		fmt.Sprintf("raise it: sysctl -w net.core.rmem_max=%d, or give the server CAP_NET_ADMIN", racksBuffer),
		"receive buffers are limited to %s: packets are lost when many machines are switched on at once", bytesOf(limit))}
}

// checkNeighbours compares the kernel's table of machines on our links with the
// addresses that we give there. When it is full, packets to all further ones
// are dropped, without a word.
func checkNeighbours(_ context.Context, st *station) []api.Check {
	if st.dhcp == nil {
		return nil
	}
	var near []fleet.Subnet
	for _, n := range st.engine.Site().Subnets {
		if n.Mode != fleet.Observe && st.network().InterfaceOf(n) != "" {
			near = append(near, n)
		}
	}
	return judgeNeighbours(procSys, near)
}

func judgeNeighbours(sys string, near []fleet.Subnet) (found []api.Check) {
	for _, family := range []string{"ipv4", "ipv6"} {
		room, err := readNumber(sys + family + "/neigh/default/gc_thresh3")
		if err != nil {
			continue
		}
		var need uint64
		var names []string
		for _, n := range near {
			if n.CIDR.Addr().Is4() != (family == "ipv4") {
				continue
			}
			if size := sizeOf(n); size > 0 {
				need = min(need+size, math.MaxInt32)
				names = append(names, n.Name)
			}
		}
		// Ranges of IPv6 are as wide as one likes: what counts there is how many
		// machines there are, of which nobody has more than an IPv4 network's.
		if family == "ipv6" {
			need = min(need, 1<<16)
		}
		if need > uint64(max(room, 0)) { //nolint:gosec // not negative
			found = append(found, trouble(checkWarning, "E-NEIGHBOURS",
				fmt.Sprintf("raise it: sysctl -w net.%[1]s.neigh.default.gc_thresh3=%[2]d net.%[1]s.neigh.default.gc_thresh2=%[3]d, and in /etc/sysctl.d", family, 2*need, need),
				"the kernel remembers %d neighbours by %s, and %s has %d addresses: packets to the rest are dropped", room, family, strings.Join(names, ", "), need))
		}
	}
	return found
}

// sizeOf is how many addresses the ranges of a subnet have.
func sizeOf(n fleet.Subnet) (size uint64) {
	for _, r := range n.Ranges {
		size = min(size+countOf(r), math.MaxInt32)
	}
	return size
}

// countOf is how many addresses a range has; of a wide one, many.
func countOf(r fleet.AddrRange) uint64 {
	first, last := r.First.As16(), r.Last.As16()
	if [8]byte(first[:8]) != [8]byte(last[:8]) {
		return math.MaxInt32
	}
	return min(low(r.Last)-low(r.First), math.MaxInt32) + 1
}

func low(a netip.Addr) (n uint64) {
	b := a.As16()
	for _, c := range b[8:] {
		n = n<<8 | uint64(c)
	}
	return n
}

// checkRelays names the relays that we do not hear.
func checkRelays(_ context.Context, st *station) (found []api.Check) {
	if st.relays == nil {
		return nil
	}
	for _, r := range st.relays.List() {
		last := st.relays.Status(r.Name)
		found = append(found, judgeRelay(time.Now(), r, last.Seen))
		for _, t := range last.Trouble {
			found = append(found, trouble(checkWarning, t.Code, fleet.Diagnose(t.Code).FixFor("relay "+r.Name), "%s: %s", r.On(), t.Detail))
		}
	}
	return found
}

func judgeRelay(now time.Time, r fleet.Relay, seen time.Time) api.Check {
	on, fix := r.On(), fleet.Diagnose(fleet.CodeRelaySilent).FixFor("relay "+r.Name)
	switch {
	case r.Enrolled.IsZero():
		return trouble(checkWarning, fleet.CodeRelaySilent, "start it with its token: provision relay --token-file FILE", "%s has not enrolled", on)
	case seen.IsZero():
		return trouble(checkWarning, fleet.CodeRelaySilent, fix, "%s was not heard since this server started", on)
	case now.Sub(seen) > fleet.RelaySilence:
		return trouble(checkFailed, fleet.CodeRelaySilent, fix, "%s was last heard %s ago", on, now.Sub(seen).Round(time.Second))
	default:
		return okay("%s", on)
	}
}

// readNumber reads a setting of the kernel.
func readNumber(name string) (int64, error) {
	raw, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64)
}
