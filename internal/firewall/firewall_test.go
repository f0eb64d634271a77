package firewall

import (
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// inNamespace runs work on a thread with a network namespace of its own, which
// ends with it.
func inNamespace(t *testing.T, work func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test makes network namespaces: run it as root (make test does)")
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			work()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// command runs a program in the namespace of this thread.
func command(t *testing.T, stdin, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

func packetTo(iface string, tcp bool, from, to string) Packet {
	return Packet{Iface: iface, TCP: tcp, From: netip.MustParseAddrPort(from), To: netip.MustParseAddrPort(to)}
}

var (
	discover = packetTo("rack0", false, "0.0.0.0:68", "255.255.255.255:67")
	tftp     = packetTo("rack0", false, "10.77.0.50:2070", "10.77.0.1:69")
	http     = packetTo("rack0", true, "10.77.0.50:40000", "10.77.0.1:80")
	elsehow  = packetTo("other0", true, "10.99.0.50:40000", "10.99.0.1:80")
	solicit  = packetTo("rack0", false, "[fe80::1]:546", "[ff02::1:2]:547")
	offer    = Packet{Iface: "rack0", Out: true, From: netip.MustParseAddrPort("10.77.0.1:67"), To: netip.MustParseAddrPort("255.255.255.255:68")}
	block    = Packet{Iface: "rack0", From: netip.MustParseAddrPort("10.77.0.50:2070"), To: netip.MustParseAddrPort("10.77.0.1:40000"), Established: true}
)

var names = map[string]Packet{"discover": discover, "tftp": tftp, "http": http, "elsehow": elsehow, "solicit": solicit, "block": block, "offer": offer}

// Rules are written by the real programs, and read back from the kernel.
func TestAPacketIsFollowedThroughTheRulesOfTheKernel(t *testing.T) {
	input := func(policy, rules string) string {
		return "table inet filter {\nchain input { type filter hook input priority 0; policy " + policy + ";\n" + rules + "\n} }\n"
	}
	tests := map[string]struct {
		nft      string
		iptables []string
		drops    string // names of packets
	}{
		"no rules":                         {"", nil, ""},
		"a policy":                         {input("drop", ""), nil, "discover tftp http elsehow solicit block"},
		"a policy, and answers":            {input("drop", "ct state established,related accept"), nil, "discover tftp http elsehow solicit"},
		"ports":                            {input("drop", "udp dport { 67, 69 } accept\ntcp dport 80 accept"), nil, "solicit block"},
		"ranges of ports":                  {input("drop", "udp dport { 60-66, 67-100, 500-600 } accept\nudp dport 30000-50000 accept"), nil, "http elsehow"},
		"an interface":                     {input("drop", `iifname "rack0" accept`), nil, "elsehow"},
		"interfaces by pattern":            {input("accept", `iifname "rack*" drop`), nil, "discover tftp http solicit block"},
		"a network":                        {input("accept", "ip saddr 10.77.0.0/24 drop"), nil, "tftp http block"},
		"networks of a set":                {"table ip f { set nets { type ipv4_addr; flags interval; elements = { 10.77.0.0/24, 192.0.2.0/24 } }\nchain in { type filter hook input priority 0; ip saddr @nets drop; } }", nil, "tftp http block"},
		"a broadcast":                      {input("accept", "meta pkttype broadcast drop"), nil, "discover"},
		"a reject":                         {input("accept", "udp dport 69 reject"), nil, "tftp"},
		"one family":                       {"table ip6 f { chain in { type filter hook input priority 0; policy drop; } }", nil, "solicit"},
		"before they are routed":           {"table inet raw { chain pre { type filter hook prerouting priority raw; udp dport 67 drop; } }", nil, "discover"},
		"forwarded packets only":           {"table inet f { chain through { type filter hook forward priority 0; policy drop; } }", nil, ""},
		"of what we send":                  {"table inet f { chain out { type filter hook output priority 0; oifname \"rack0\" udp dport 68 drop; } }", nil, "offer"},
		"of what we send, by another card": {"table inet f { chain out { type filter hook output priority 0; oifname \"other0\" drop; iifname \"rack0\" drop; } }", nil, ""},
		"a map of verdicts":                {"table inet f { chain rack { udp dport 67 accept; drop; }\nchain in { type filter hook input priority 0; iifname vmap { \"rack0\" : jump rack, \"other0\" : drop } } }", nil, "tftp http elsehow solicit block"},
		"a chain that returns":             {"table inet f { chain sub { udp dport 67 return; drop; }\nchain in { type filter hook input priority 0; jump sub; } }", nil, "tftp http elsehow solicit block"},
		"a chain without return":           {"table inet f { chain sub { udp dport 67 return; }\nchain in { type filter hook input priority 0; policy drop; goto sub; accept; } }", nil, "discover tftp http elsehow solicit block"},
		"accepted here, dropped in the next table": {
			input("accept", "udp dport 69 accept") + "table inet late { chain in { type filter hook input priority 10; udp dport 69 drop; } }", nil, "tftp",
		},
		"a limit":                                 {input("drop", "udp dport 67 limit rate 10/second accept\nudp dport 69 limit rate over 10/second accept"), nil, "tftp http elsehow solicit block"},
		"what we do not understand, drops":        {input("accept", "meta skuid 0 drop\nfib daddr type local drop"), nil, ""},
		"what we do not understand, lets through": {input("drop", "fib daddr type local accept"), nil, ""},
		"of iptables": {"", []string{
			"-A INPUT -i lo -j ACCEPT", "-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
			"-A INPUT -i rack0 -p udp --dport 67:68 -j ACCEPT", "-A INPUT -p tcp -s 10.77.0.0/24 --dport 80 -j ACCEPT", "-P INPUT DROP",
		}, "tftp elsehow"},
		"of iptables, with what we do not understand": {"", []string{"-A INPUT -m multiport -p udp --dports 67,69 -j ACCEPT", "-P INPUT DROP"}, "http elsehow"},
		"of iptables, refused":                        {"", []string{"-A INPUT -p udp -m udp ! --dport 67 -j REJECT"}, "tftp block"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			inNamespace(t, func() {
				if tt.nft != "" {
					command(t, lines(tt.nft), "nft", "-f", "-")
				}
				for _, rule := range tt.iptables {
					command(t, "", "iptables-nft", strings.Fields(rule)...)
				}
				r, err := Read()
				if err != nil {
					t.Error(err)
					return
				}
				for name, p := range names {
					where, drops := r.Drops(p)
					if want := strings.Contains(" "+tt.drops+" ", " "+name+" "); drops != want || drops != (where != "") {
						t.Errorf("%s is dropped: %t (%q), want %t", name, drops, where, want)
					}
				}
			})
		})
	}
}

func TestWhoDropsIsNamedAsNftDoes(t *testing.T) {
	inNamespace(t, func() {
		command(t, lines("table inet guard { chain sub { udp dport 69 drop; }\nchain in { type filter hook input priority 0; policy drop; jump sub; } }"), "nft", "-f", "-")
		r, err := Read()
		if err != nil {
			t.Error(err)
			return
		}
		for p, want := range map[string]string{"tftp": "chain inet guard sub", "discover": "chain inet guard in (policy drop)"} {
			if where, _ := r.Drops(names[p]); where != want {
				t.Errorf("%s is dropped by %q, want %q", p, where, want)
			}
		}
	})
}

// lines puts closing braces on lines of their own, as nft wants them.
func lines(rules string) string {
	return strings.NewReplacer("} } }", "}\n}\n}", "} }", "}\n}").Replace(rules) + "\n"
}
