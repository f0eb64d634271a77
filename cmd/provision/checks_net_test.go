package main

import (
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

// onHost runs work on a thread that has a network of its own, made by
// commands: lines of them.
func onHost(t *testing.T, commands string, work func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test makes network namespaces: run it as root (make test does)")
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends, and the namespace with it
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		for line := range strings.Lines(commands) {
			args := strings.Fields(line)
			command(t, args[0], args[1:]...)
		}
		work()
		done <- nil
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// command runs a program on this thread.
func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// stationOn is a server for interfaces, with a site. Nothing of it runs.
func stationOn(t *testing.T, site string, interfaces ...string) *station {
	t.Helper()
	conf := defaultConfig()
	conf.StateDir, conf.Listen.DHCP = t.TempDir(), interfaces
	st, err := openStation(t.Context(), conf, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Error(err)
		return nil
	}
	t.Cleanup(func() { _ = st.store.Close() })
	declared, err := ParseSite([]byte(site))
	if err == nil {
		_, err = st.engine.Apply(t.Context(), "test", declared, false)
	}
	if err != nil {
		t.Error(err)
	}
	return st
}

// says reports whether a finding of that state has all of these words in its
// text or its fix.
func says(found []api.Check, state string, words ...string) bool {
	return slices.ContainsFunc(found, func(c api.Check) bool {
		return c.State == state && !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(c.Text+" "+c.Fix, w) })
	})
}

const rackSite = `
subnets:
- {name: rack, cidr: 10.77.0.0/24, mode: full, ranges: [10.77.0.100-10.77.0.109], dns: [127.0.0.1]}
- {name: far, cidr: 10.88.0.0/24, mode: full, ranges: [10.88.0.100-10.88.0.109]}
- {name: quiet, cidr: 10.89.0.0/24}
`

const hostWithRack = `ip link add rack0 type veth peer name rack0-end
ip address add 10.77.0.1/24 dev rack0
ip link set rack0 up
`

func TestTheDoctorLooksAtInterfacesAndSubnets(t *testing.T) {
	onHost(t, hostWithRack+`ip link add down0 type veth peer name down0-end
ip link add bare0 type veth peer name bare0-end
ip link set bare0 up
ip link add other0 type veth peer name other0-end
ip address add 10.99.0.1/24 dev other0
ip link set other0 up
`, func() {
		st := stationOn(t, rackSite, "rack0", "down0", "bare0", "other0", "gone0")
		found := checkInterfaces(t.Context(), st)
		for _, want := range []struct{ state, text, fix string }{
			{checkOK, "interface rack0", ""},
			{checkFailed, "interface down0 is down", "ip link set down0 up"},
			{checkFailed, "interface bare0 has no", "ip address add ADDRESS/BITS dev bare0"},
			{checkWarning, "no subnet is declared on interface other0", "site.yaml"},
			{checkFailed, "interface gone0 is gone", "listen.dhcp"},
		} {
			if !says(found, want.state, want.text, want.fix) {
				t.Errorf("the doctor finds %+v, want %s: %s (%s)", found, want.state, want.text, want.fix)
			}
		}
		st.dhcp.SetSubnets(st.engine.Site().Subnets)
		found = checkSubnets(t.Context(), st)
		for _, want := range []struct{ state, text, fix string }{
			{checkOK, "subnet rack (10.77.0.0/24) full, 10 of 10 addresses free", ""},
			{checkWarning, "no interface of this server is on subnet far (10.88.0.0/24)", "on the router of far: ip helper-address 10.77.0.1"},
			{checkOK, "subnet quiet (10.89.0.0/24) observe", ""},
		} {
			if !says(found, want.state, want.text, want.fix) {
				t.Errorf("the doctor finds %+v, want %s: %s (%s)", found, want.state, want.text, want.fix)
			}
		}
		if len(found) != 3 {
			t.Errorf("the doctor finds %+v", found)
		}
	})
}

func TestTheDoctorMissesSubnets(t *testing.T) {
	st := stationOn(t, "stages: [{name: prd}]\n", "lo")
	if found := checkSubnets(t.Context(), st); len(found) != 1 || !says(found, checkWarning, "no subnet is declared", "provision apply -f site.yaml") {
		t.Errorf("the doctor finds %+v", found)
	}
	st.dhcp = nil
	for name, look := range map[string]func() []api.Check{
		"interfaces": func() []api.Check { return checkInterfaces(t.Context(), st) }, "subnets": func() []api.Check { return checkSubnets(t.Context(), st) },
		"firewall": func() []api.Check { return checkFirewall(t.Context(), st) }, "dns": func() []api.Check { return checkDNS(t.Context(), st) },
	} {
		if found := look(); len(found) != 0 {
			t.Errorf("without DHCP the doctor finds %+v of %s", found, name)
		}
	}
}

func TestTheDoctorFetchesKernelAndRamdisk(t *testing.T) {
	dir := t.TempDir()
	files := http.StripPrefix("/boot/", http.FileServer(http.Dir(dir)))
	refused := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == refused {
			http.Error(w, "no", http.StatusMethodNotAllowed)
			return
		}
		files.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	st := &station{conf: config{Listen: listenConfig{HTTP: ":" + server.URL[strings.LastIndex(server.URL, ":")+1:]}}}
	if found := checkBootFiles(t.Context(), st); len(found) != 2 || !says(found, checkFailed, "HEAD of vmlinuz: status 404", "provision images build") {
		t.Errorf("without files the doctor finds %+v", found)
	}
	for _, name := range []string{"vmlinuz", "initrd.img"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if found := checkBootFiles(t.Context(), st); len(found) != 1 || !says(found, checkOK, "kernel and ramdisk are served") {
		t.Errorf("with both the doctor finds %+v", found)
	}
	refused = http.MethodHead
	if found := checkBootFiles(t.Context(), st); !says(found, checkFailed, "HEAD of initrd.img: status 405") {
		t.Errorf("without HEAD the doctor finds %+v", found)
	}
	server.Close()
	if found := checkBootFiles(t.Context(), st); !says(found, checkFailed, "vmlinuz", "connection refused") {
		t.Errorf("without a server the doctor finds %+v", found)
	}
	http.DefaultClient.CloseIdleConnections()
}

// The rules are real ones, of nftables in a namespace.
func TestTheDoctorFindsAFirewallThatKeepsMachinesOut(t *testing.T) {
	drop := "nft add table inet guard\nnft add chain inet guard in {type filter hook input priority 0;policy drop;}\n"
	six := "ip address add fd77::1/64 dev rack0 nodad\n"
	inet6 := "nft add table ip6 guard\nnft add chain ip6 guard in {type filter hook input priority 0;}\n"
	tests := map[string]struct {
		rules string
		state string
		words []string
	}{
		"none":                   {"", checkOK, []string{"lets machines in on rack0 (IPv4)"}},
		"none, of IPv6":          {six, checkOK, []string{"lets machines in on rack0 (IPv4, IPv6)"}},
		"that drops IPv6 only":   {six + inet6 + "nft add rule ip6 guard in tcp dport 80 drop\n", checkFailed, []string{"drops TCP 80 of IPv6 on rack0: chain ip6 guard in"}},
		"of a host without IPv4": {"ip address flush dev rack0\n" + six + inet6 + "nft add rule ip6 guard in udp dport {69,547} drop\n", checkFailed, []string{"drops UDP 547 of IPv6, UDP 69 of IPv6 on rack0"}},
		"that sends nothing by IPv6": {
			six + "nft add table ip6 guard\nnft add chain ip6 guard out {type filter hook output priority 0;policy drop;}\n", checkFailed,
			[]string{"drops answers to UDP 546 of IPv6, TFTP's blocks (UDP, high ports) of IPv6 on rack0: chain ip6 guard out (policy drop)"},
		},
		"that drops TFTP":    {"nft add table inet guard\nnft add chain inet guard in {type filter hook input priority 0;}\nnft add rule inet guard in udp dport 69 drop\n", checkFailed, []string{"drops UDP 69 on rack0: chain inet guard in", "accept UDP 69 on rack0"}},
		"that drops all":     {drop, checkFailed, []string{"UDP 67, UDP 69, UDP 4011, TCP 80, TCP 8443", "chain inet guard in (policy drop)", "tftp.single_port"}},
		"that sends nothing": {"nft add table inet guard\nnft add chain inet guard out {type filter hook output priority 0;policy drop;}\n", checkFailed, []string{"drops answers to UDP 68, TFTP's blocks (UDP, high ports) on rack0: chain inet guard out (policy drop)"}},
		"with these ports":   {drop + "nft add rule inet guard in ct state established accept\nnft add rule inet guard in udp dport {67,69,4011} accept\nnft add rule inet guard in tcp dport {80,8443} accept\n", checkOK, []string{"lets machines in"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			site6 := ""
			if strings.Contains(tt.rules, six) {
				site6 = "- {name: rack6, cidr: 'fd77::/64', mode: reserved}\n"
			}
			onHost(t, hostWithRack+tt.rules, func() {
				found := checkFirewall(t.Context(), stationOn(t, rackSite+site6, "rack0"))
				if len(found) != 1 || !says(found, tt.state, tt.words...) {
					t.Errorf("the doctor finds %+v, want %s: %q", found, tt.state, tt.words)
				}
			})
		})
	}
}

// nameService answers DNS on loopback: it knows one name, refuses to speak of
// the root, and does not answer for another.
func nameService(t *testing.T) netip.AddrPort {
	t.Helper()
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { _ = c.Close(); <-done })
	go func() {
		defer close(done)
		b := make([]byte, 512)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(b[:n]) != nil || m.Questions[0].Name.String() == "silent.example." {
				continue
			}
			m.Response, m.RCode = true, dnsmessage.RCodeRefused
			switch q := m.Questions[0]; q.Name.String() {
			case "boot.example.":
				m.RCode = dnsmessage.RCodeSuccess
				if q.Type == dnsmessage.TypeAAAA {
					m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}, Body: &dnsmessage.AAAAResource{}}}
				}
			case "gone.example.":
				m.RCode = dnsmessage.RCodeNameError
			}
			if raw, err := m.Pack(); err == nil {
				_, _ = c.WriteTo(raw, from)
			}
		}
	}()
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

func TestTheDoctorAsksDNSServers(t *testing.T) {
	addr := nameService(t)
	closed, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	shut := closed.LocalAddr().(*net.UDPAddr).AddrPort()
	_ = closed.Close()
	tests := map[string]struct {
		at    netip.AddrPort
		name  string
		state string
		words []string
	}{
		"it answers":                {addr, "", checkOK, []string{"DNS server 127.0.0.1 of subnet rack"}},
		"it knows the name":         {addr, "boot.example", checkOK, nil},
		"it does not know the name": {addr, "gone.example", checkFailed, []string{"does not know gone.example", "add gone.example to the DNS"}},
		"it refuses to say":         {addr, "secret.example", checkWarning, []string{"it answers Refused"}},
		"it is silent about a name": {addr, "silent.example", checkWarning, []string{"i/o timeout"}},
		"nobody is there":           {shut, "boot.example", checkWarning, []string{"does not answer", "connection refused", "dns: of the subnet"}},
		"the name cannot be a name": {addr, strings.Repeat("a", 300), checkWarning, []string{"name"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := nameServer{addr: tt.at, subnets: []string{"rack"}}
			if tt.name != "" {
				s.names = []string{tt.name}
			}
			if found := s.check(t.Context()); len(found) != 1 || !says(found, tt.state, tt.words...) {
				t.Errorf("the doctor finds %+v, want %s: %q", found, tt.state, tt.words)
			}
		})
	}
}

func TestDNSServersAreThoseThatServedSubnetsHandOut(t *testing.T) {
	ip := netip.MustParseAddr
	subnets := []fleet.Subnet{
		{Name: "rack", Mode: fleet.Full, DNS: []netip.Addr{ip("10.77.0.5"), ip("10.77.0.6")}, Classes: []fleet.DHCPClass{
			{BootFile: "http://boot.example:8080/x.efi"}, {BootFile: "http://10.77.0.9/x.efi"}, {BootFile: "x.0"},
		}},
		{Name: "row", Mode: fleet.Reserved, DNS: []netip.Addr{ip("10.77.0.5")}},
		{Name: "beside", Mode: fleet.Proxy, DNS: []netip.Addr{ip("10.77.0.7")}},
	}
	list := nameServers(subnets, []string{"provision.example"})
	if len(list) != 2 || list[0].addr.String() != "10.77.0.5:53" || list[1].addr.String() != "10.77.0.6:53" {
		t.Fatalf("they are %+v", list)
	}
	if got := list[0]; strings.Join(got.subnets, " ") != "rack row" || strings.Join(got.names, " ") != "provision.example boot.example" {
		t.Errorf("the first is asked for %+v", got)
	}
}
