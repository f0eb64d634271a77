package dhcp

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rackstage/provision/fleet"
)

// A realRelay is another maker's relay, in front of a subnet that the third byte
// of all its addresses tells apart. It adds option 82 to what it relays.
type realRelay struct {
	third    byte
	script   string            // after its cards are up: far0 to the client, up0 to the server
	reserved fleet.Reservation // for whoever is at the port that it names
	place    fleet.Place
	wants    string // the client's address
}

func (r *realRelay) addr(format string) string {
	return strings.ReplaceAll(format, "N", fmt.Sprint(r.third))
}

func (r *realRelay) subnet() fleet.Subnet {
	at := func(format string) netip.Addr { return netip.MustParseAddr(r.addr(format)) }
	n := fleet.Subnet{
		Name: r.addr("farN"), CIDR: netip.PrefixFrom(at("10.N.0.0"), 24), Mode: fleet.Full, UnknownShare: 100,
		Ranges: []fleet.AddrRange{{First: at("10.N.0.10"), Last: at("10.N.0.20")}}, Relays: []netip.Addr{at("10.N.0.1"), at("10.77.0.N")},
	}
	if r.reserved.CircuitID != "" {
		n.Reservations = []fleet.Reservation{r.reserved}
	}
	return n
}

func realRelays(t *testing.T) map[string]*realRelay {
	t.Helper()
	dhcrelay, err := filepath.Abs("../build/peers/usr/sbin/dhcrelay")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath(dhcrelay); err != nil {
		t.Fatalf("%v (internal/build/setup.sh test unpacks it)", err)
	}
	hexOf := func(s string) string { return hex.EncodeToString([]byte(s)) }
	return map[string]*realRelay{
		// ISC's names the card that it heard the client on.
		"dhcrelay -a": {
			third: 88, script: "exec " + dhcrelay + " -4 -d --no-pid -a -D -id far0 -iu up0 10.77.0.1", wants: "10.88.0.77",
			reserved: fleet.Reservation{CircuitID: hexOf("far0"), Addr: netip.MustParseAddr("10.88.0.77")},
			place:    fleet.Place{Subnet: "far88", Relay: netip.MustParseAddr("10.88.0.1"), CircuitID: "far0"},
		},
		// This one's giaddr is of the server's side: where the client is says its
		// link selection.
		"dhcrelay -U": {
			third: 89, script: "exec " + dhcrelay + " -4 -d --no-pid -D -id far0 -U up0 10.77.0.1", wants: "10.89.0.10",
			place: fleet.Place{Subnet: "far89", Relay: netip.MustParseAddr("10.77.0.89"), CircuitID: "far0"},
		},
		// It names the port and itself. It insists on folders of its own user, on a
		// /sys that is read-only where no udev is, and on giving addresses itself.
		"systemd-networkd": {
			third: 90, wants: "10.90.0.77",
			script: `mount -t tmpfs run /run && mount -t sysfs -o ro sys /sys
mkdir -p /run/systemd/network /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp
chown -R systemd-network: /run/systemd/netif
ip addr flush dev far0
printf '[Match]\nName=up0\n[Network]\nKeepConfiguration=yes\n' >/run/systemd/network/up.network
printf '[Match]\nName=far0\n[Network]\nAddress=10.90.0.1/24\nDHCPServer=yes\n[DHCPServer]\nBindToInterface=no\nRelayTarget=10.77.0.1\nRelayAgentCircuitId=string:ge-0/0/7\nRelayAgentRemoteId=string:leaf-1\n' >/run/systemd/network/far.network
exec /lib/systemd/systemd-networkd`,
			reserved: fleet.Reservation{CircuitID: hexOf("ge-0/0/7"), RemoteID: hexOf("leaf-1"), Addr: netip.MustParseAddr("10.90.0.77")},
			place:    fleet.Place{Subnet: "far90", Relay: netip.MustParseAddr("10.90.0.1"), CircuitID: "ge-0/0/7", RemoteID: "leaf-1"},
		},
	}
}

// apart runs a script in namespaces of its own, for which take brings what it
// needs before it begins.
func apart(t *testing.T, script string, take func(pid string)) (cmd *exec.Cmd, said *bytes.Buffer) {
	t.Helper()
	said = &bytes.Buffer{}
	cmd = exec.CommandContext(context.WithoutCancel(t.Context()), "sh", "-ec", "read go\nip link set lo up\n"+script) //nolint:gosec // of this test
	cmd.Stdout, cmd.Stderr = said, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s\nsaid:\n%s", script, said)
		}
	})
	take(fmt.Sprint(cmd.Process.Pid))
	if _, err := in.Write([]byte("go\n")); err != nil {
		t.Fatal(err)
	}
	return cmd, said
}

// TestRelaysOfOtherMakersSayWhereClientsAre has udhcpc ask through real relays,
// each with namespaces of its own for itself and its client. What they write in
// option 82 reserves an address and tells the place; and since ISC's pass nothing
// on whose option 82 is not theirs (-D), a client with a lease proves that it came
// back as it was.
func TestRelaysOfOtherMakersSayWhereClientsAre(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	run(t, "ip", "link", "add", "rack0", "type", "bridge")
	run(t, "ip", "addr", "add", "10.77.0.1/24", "dev", "rack0")
	run(t, "ip", "link", "set", "rack0", "up")
	relays, subnets := realRelays(t), []fleet.Subnet{rackSubnet(fleet.Observe)}
	for _, r := range relays {
		run(t, "ip", "route", "add", r.addr("10.N.0.0/24"), "via", r.addr("10.77.0.N"))
		subnets = append(subnets, r.subnet())
	}
	observed := &seen{}
	s := startServer(t, Options{Subnets: subnets, Nodes: knownNodes{}, Leases: &memoryLeases{}, Observer: observed})
	for name, r := range relays {
		t.Run(name, func(t *testing.T) {
			mac := fleet.MAC(fmt.Sprintf("52:54:00:82:00:%02x", r.third))
			out := r.asks(t, mac)
			if want := "bound " + r.wants + " by 10.77.0.1"; !strings.Contains(out, want) {
				t.Errorf("udhcpc did not say %q:\n%s", want, out)
			}
			if l, ok := s.LeaseByAddr(netip.MustParseAddr(r.wants)); !ok || l.State != fleet.LeaseBound || l.MAC != mac {
				t.Errorf("LeaseByAddr = %+v, %t, want the client's", l, ok)
			}
			if at := observed.places(mac); len(at) < 2 || slices.ContainsFunc(at, func(p fleet.Place) bool { return p != r.place }) {
				t.Errorf("places = %+v, want of DISCOVER and REQUEST %+v", at, r.place)
			}
		})
	}
	if st := s.Stats(); st.ACKs < int64(len(relays)) || st.Malformed != 0 || st.SendError != 0 || st.Panics != 0 {
		t.Errorf("Stats = %+v, want an ACK for each and no fault", st)
	}
}

func (s *seen) places(mac fleet.MAC) (all []fleet.Place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ev := range s.events {
		if ev.MAC == mac {
			all = append(all, ev.Place)
		}
	}
	return all
}

// asks starts the relay, has a client behind it ask as UEFI firmware does, and
// returns what the client said.
func (r *realRelay) asks(t *testing.T, mac fleet.MAC) string {
	t.Helper()
	up, far, nic := r.addr("upN"), r.addr("farN"), r.addr("nicN")
	run(t, "ip", "link", "add", far, "type", "veth", "peer", "name", nic)
	run(t, "ip", "link", "set", nic, "address", string(mac))
	begins := r.addr("ip link set UP name up0\nip link set FAR name far0\nip addr add 10.77.0.N/24 dev up0\nip addr add 10.N.0.1/24 dev far0\nip link set up0 up\nip link set far0 up\n")
	begins = strings.NewReplacer("UP", up, "FAR", far).Replace(begins)
	apart(t, begins+r.script, func(pid string) {
		run(t, "ip", "link", "add", up, "type", "veth", "peer", "name", r.addr("portN"))
		run(t, "ip", "link", "set", r.addr("portN"), "master", "rack0", "up")
		run(t, "ip", "link", "set", up, "netns", pid)
		run(t, "ip", "link", "set", far, "netns", pid)
	})
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n[ $1 != bound ] || echo $1 $ip by $serverid\n"), 0o700); err != nil { //nolint:gosec // it is run
		t.Fatal(err)
	}
	client, said := apart(t, "ip link set "+nic+" up\nexec busybox udhcpc -i "+nic+" -n -q -f -t 20 -T 1 -V PXEClient:Arch:00007:UNDI:003016 -x 0x5d:0007 -s "+script,
		func(pid string) { run(t, "ip", "link", "set", nic, "netns", pid) })
	done := time.AfterFunc(40*time.Second, func() { _ = client.Process.Kill() })
	defer done.Stop()
	if err := client.Wait(); err != nil {
		t.Fatalf("udhcpc: %v", err)
	}
	return said.String()
}
