package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rackstage/provision/dhcp"
	"github.com/rackstage/provision/engine"
	"github.com/rackstage/provision/fleet"
)

func TestTheDoctorDoubtsTheClock(t *testing.T) {
	at := func(s string) time.Time {
		when, err := time.Parse(time.DateTime, s)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	tests := map[string]struct {
		now, newest time.Time
		want        string
	}{
		"of a board without a battery":   {at("1970-01-01 00:01:00"), time.Time{}, checkFailed},
		"that runs behind what happened": {at("2026-11-21 12:00:00"), at("2026-11-21 12:05:00"), checkFailed},
		"that was set back by a second":  {at("2026-11-21 12:00:00"), at("2026-11-21 12:00:01"), checkOK},
		"of a new server":                {at("2026-11-21 12:00:00"), time.Time{}, checkOK},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := judgeClock(tt.now, tt.newest); got.State != tt.want || (got.State != checkOK) != (got.Fix != "") {
				t.Errorf("the doctor finds %+v, want %s", got, tt.want)
			}
		})
	}
	st := &station{engine: engine.New(engine.Options{})}
	if found := checkClock(t.Context(), st); len(found) == 0 || found[0].State != checkOK {
		t.Errorf("here the doctor finds %+v", found)
	}
	for state, want := range map[int]int{unix.TIME_OK: 0, unix.TIME_INS: 0, unix.TIME_ERROR: 1} {
		if found := judgeSync(state); len(found) != want {
			t.Errorf("of a clock in state %d the doctor finds %+v", state, found)
		}
	}
}

// kernel makes a folder like /proc/sys/net/.
func kernel(t *testing.T, settings map[string]string) string {
	t.Helper()
	dir := t.TempDir() + "/"
	for name, value := range settings {
		if err := os.MkdirAll(filepath.Dir(dir+name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+name, []byte(value+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestTheDoctorFindsBuffersThatARackOverflows(t *testing.T) {
	for limit, want := range map[string]int{"212992": 1, "8388608": 0, "16777216": 0} {
		found := judgeBuffer(kernel(t, map[string]string{"core/rmem_max": limit}))
		if len(found) != want || want > 0 && !strings.Contains(found[0].Fix, "sysctl -w net.core.rmem_max=8388608") {
			t.Errorf("with a limit of %s the doctor finds %+v", limit, found)
		}
	}
}

func TestTheDoctorFindsATableOfNeighboursThatIsTooSmall(t *testing.T) {
	subnet := func(name, cidr, first, last string) fleet.Subnet {
		return fleet.Subnet{
			Name: name, CIDR: netip.MustParsePrefix(cidr),
			Ranges: []fleet.AddrRange{{First: netip.MustParseAddr(first), Last: netip.MustParseAddr(last)}},
		}
	}
	small := subnet("small", "10.0.0.0/24", "10.0.0.10", "10.0.0.209")
	big := subnet("big", "10.8.0.0/16", "10.8.0.0", "10.8.3.231") // a thousand
	six := subnet("six", "fd77::/64", "fd77::1", "fd77::ffff:ffff:ffff")
	tests := map[string]struct {
		room string
		near []fleet.Subnet
		want string
	}{
		"for a rack":             {"1024", []fleet.Subnet{small}, ""},
		"for just as many":       {"1000", []fleet.Subnet{big}, ""},
		"for one too many":       {"999", []fleet.Subnet{big}, "sysctl -w net.ipv4.neigh.default.gc_thresh3=2000 net.ipv4.neigh.default.gc_thresh2=1000"},
		"for all links together": {"1024", []fleet.Subnet{small, big}, "gc_thresh3=2400"},
		"for IPv6":               {"1024", []fleet.Subnet{six}, "sysctl -w net.ipv6.neigh.default.gc_thresh3=131072"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			sys := kernel(t, map[string]string{"ipv4/neigh/default/gc_thresh3": tt.room, "ipv6/neigh/default/gc_thresh3": tt.room})
			found := judgeNeighbours(sys, tt.near)
			if (len(found) > 0) != (tt.want != "") || len(found) > 0 && !strings.Contains(found[0].Fix, tt.want) {
				t.Errorf("the doctor finds %+v, want %q", found, tt.want)
			}
		})
	}
}

func TestTheDoctorNamesRelaysThatAreAway(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	enrolled := fleet.Relay{Name: "west", Subnets: []string{"west-boot"}, Enrolled: now.Add(-time.Hour)}
	tests := map[string]struct {
		relay fleet.Relay
		seen  time.Time
		want  string
	}{
		"it is there":             {enrolled, now.Add(-2 * time.Second), checkOK},
		"it went silent":          {enrolled, now.Add(-2 * fleet.RelaySilence), checkFailed},
		"it was not heard yet":    {enrolled, time.Time{}, checkWarning},
		"it never used its token": {fleet.Relay{Name: "west"}, time.Time{}, checkWarning},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := judgeRelay(now, tt.relay, tt.seen)
			if got.State != tt.want || !strings.Contains(got.Text, "relay west") || (got.State != checkOK) != (got.Fix != "") {
				t.Errorf("the doctor finds %+v, want %s", got, tt.want)
			}
		})
	}
}

func TestTheDoctorFindsPortsThatNobodyServes(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	open := l.Addr().(*net.TCPAddr).Port
	shut, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := shut.Addr().(*net.TCPAddr).Port
	if err := shut.Close(); err != nil {
		t.Fatal(err)
	}
	at := func(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
	st := &station{conf: config{Listen: listenConfig{HTTP: at(open), HTTPS: at(open), BootHTTPS: at(closed)}}}
	found := checkPorts(t.Context(), st)
	if !strings.Contains(found[0].Text, fmt.Sprintf("TCP %d", open)) || found[0].State != checkOK {
		t.Errorf("of the port that is open the doctor finds %+v", found[0])
	}
	if found[1].State != checkFailed || !strings.Contains(found[1].Text, fmt.Sprintf("TCP %d", closed)) {
		t.Errorf("of the port of boot_https the doctor finds %+v", found[1])
	}
}

func TestTheDoctorLooksAtThePortsOfBothFamilies(t *testing.T) {
	st := &station{conf: config{Listen: listenConfig{HTTP: ":80", HTTPS: ":8443"}}, dhcp: &dhcp.Server{}}
	for _, port := range []int{67, 69, 4011, 547} {
		if !slices.Contains(st.ports(), door{"udp", port}) {
			t.Errorf("the doctor does not look at UDP %d", port)
		}
	}
}
