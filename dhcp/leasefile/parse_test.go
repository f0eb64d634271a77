package leasefile

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/fleet"
)

// now is 2026-11-20 10:06:40, between the leases of the files.
var now = time.Unix(1795169200, 0).UTC()

func describe(f File) string {
	var b strings.Builder
	for _, l := range f.Leases {
		end := l.Expires.Format("2006-01-02 15:04")
		if l.Expires.After(now.Add(forever / 2)) {
			end = "never"
		}
		fmt.Fprintf(&b, "%s %s %q %q %s\n", l.Addr, l.MAC, l.Hostname, l.ClientID, end)
	}
	for _, l := range f.Leases6 {
		fmt.Fprintf(&b, "%s %s %d %q %s\n", l.Addr, l.DUID, l.IAID, l.MAC, l.Expires.Format("2006-01-02 15:04"))
	}
	for _, s := range f.Skipped {
		fmt.Fprintf(&b, "line %d: %s: %s\n", s.Line, s.What, s.Reason)
	}
	return b.String()
}

func TestFilesOfOtherServersAreRead(t *testing.T) {
	tests := map[string]struct {
		format Format
		want   string
	}{
		"dnsmasq.leases": {Dnsmasq, `10.77.0.101 52:54:00:12:34:56 "node-a" "01525400123456" 2026-11-20 11:00
10.77.0.102 52:54:00:12:34:57 "" "ff001122330004aa" 2026-11-20 11:00
10.77.0.103 52:54:00:12:34:58 "printer" "" never
fd77::101 000100012e112234525400123456 1193046 "" 2026-11-20 11:00
line 4: 10.77.0.104: expired
line 5: 10.77.0.105: without the address of an Ethernet card
`},
		"dnsmasq6.leases": {Dnsmasq, `10.77.0.173 52:54:00:12:34:01 "node-1" "" 2026-11-22 04:27
fd77::16e 00030001525400123405 1192965 "" 2026-11-21 20:32
fd77::1e8 00030001525400123402 1192962 "" 2026-11-21 20:32
fd77::1f6 00020000ab11df8d22783b010203 1192963 "" 2026-11-21 20:32
fd77::1f7 0001000132949f10525400123401 1192961 "" 2026-11-21 20:32
`},
		"dhcpd6.leases": {ISC, `fd77::101 0001000132949efe525400123401 1192961 "" 2026-11-22 04:27
fd77::104 00030001525400123402 1192962 "" 2026-11-22 04:27
fd77::16c 00030001525400123405 1192965 "" 2026-11-22 04:27
fd77::1f5 00020000ab11df8d22783b010203 1192963 "" 2026-11-22 04:27
line 31: fd77:1:0:f::/64: a prefix
line 61: fd77::184: released
line 81: fd77::80b9: temporary
`},
		"kea-leases6.csv": {Kea, `fd77::100 0001000132949eee525400123401 1192961 "52:54:00:12:34:01" 2026-11-22 04:26
fd77::101 00030001525400123402 1192962 "52:54:00:12:34:02" 2026-11-22 04:26
fd77::102 00020000ab11df8d22783b010203 1192963 "" 2026-11-22 04:26
fd77::104 00030001525400123405 1192965 "52:54:00:12:34:05" 2026-11-22 04:27
line 4: fd77:1::/64: a prefix
line 7: fd77::103: released
`},
		"dhcpd.leases": {ISC, `10.77.0.101 52:54:00:12:34:56 "node-a" "" 2026-11-20 22:05
10.77.0.102 52:54:00:12:34:57 "" "ff3b225c78" never
line 35: 10.77.0.103: free
line 41: 10.77.0.104: abandoned
line 56: the last block: not whole
`},
		"kea-leases4.csv": {Kea, `10.77.0.101 52:54:00:12:34:56 "node-a" "01525400123456" 2026-11-20 12:00
10.77.0.102 52:54:00:12:34:57 "" "" 2026-11-20 11:00
line 5: 10.77.0.103: declined
line 6: 10.77.0.104: released
line 7: 10.77.0.105: without the address of an Ethernet card
`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			raw, err := os.ReadFile("testdata/" + name)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Parse(bytes.NewReader(raw), "", now)
			if err != nil || got.Format != tt.format || describe(got) != tt.want {
				t.Errorf("Parse = %s, %v\n%swant %s\n%s", got.Format, err, describe(got), tt.format, tt.want)
			}
		})
	}
}

// What real servers wrote of real clients (testdata/README.md), some hours before
// the leases end that were not given back, refused, or short.
func TestLeasesAreThoseThatServersGave(t *testing.T) {
	tests := map[string]struct {
		format Format
		want   string
	}{
		"kea4.csv": {Kea, `10.77.0.100 52:54:00:12:34:01 "node-1" "01525400123401" 2026-12-01 02:37
10.77.0.102 52:54:00:12:34:02 "node-2" "" 2026-12-01 02:37
10.77.0.104 52:54:00:12:34:03 "" "006122623b7b5c632c647d" 2026-12-01 02:37
10.77.0.111 52:54:00:12:34:08 "node-8" "" never
line 7: 10.77.0.106: released
line 9: 10.77.0.108: declined
line 12: 10.77.0.110: expired
line 14: 10.77.0.113: expired
`},
		"dhcpd4.leases": {ISC, `10.77.0.100 52:54:00:12:34:01 "node-1" "01525400123401" 2026-12-01 02:38
10.77.0.101 52:54:00:12:34:02 "node-2" "" 2026-12-01 02:38
10.77.0.102 52:54:00:12:34:03 "" "006122623b7b5c632c647d" 2026-12-01 02:38
10.77.0.106 52:54:00:12:34:08 "node-8" "" never
line 52: 10.77.0.103: free
line 70: 10.77.0.104: abandoned
line 99: 10.77.0.105: free
line 107: 10.77.0.107: expired
`},
		"dnsmasq4.leases": {Dnsmasq, `10.77.0.173 52:54:00:12:34:01 "node-1" "01525400123401" 2026-12-01 02:38
10.77.0.174 52:54:00:12:34:02 "node-2" "" 2026-12-01 02:38
10.77.0.175 52:54:00:12:34:03 "" "006122623b7b5c632c647d" 2026-12-01 02:38
10.77.0.181 52:54:00:12:34:08 "node-8" "" never
line 1: 10.77.0.180: expired
line 3: 10.77.0.179: expired
`},
	}
	at := time.Date(2026, 11, 30, 18, 0, 0, 0, time.UTC)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			raw, err := os.ReadFile("testdata/" + name)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Parse(bytes.NewReader(raw), "", at)
			if err != nil || got.Format != tt.format || describe(got) != tt.want {
				t.Errorf("Parse = %s, %v\n%swant %s\n%s", got.Format, err, describe(got), tt.format, tt.want)
			}
		})
	}
}

// What the servers did not write for us, they write for others.
func TestLeasesOfIPv6InEveryState(t *testing.T) {
	const kea = "address,duid,valid_lifetime,expire,subnet_id,pref_lifetime,lease_type,iaid,prefix_len,fqdn_fwd,fqdn_rev,hostname,hwaddr,state\n"
	tests := map[string]struct{ text, want string }{
		"a temporary address of dnsmasq": {"duid 00:01\n0 T7 fd77::1 a 00:03:00:01:52:54:00:12:34:56\n", "line 2: fd77::1: temporary\n"},
		"an address without a DUID":      {"duid 00:01\n0 7 fd77::1 a *\n", "line 2: fd77::1: without a DUID\n"},
		"an address that was declined":   {kea + "fd77::1,00:00:00,600,1795172400,1,600,0,0,128,0,0,,,1\n", "line 2: fd77::1: declined\n"},
		"a lease that ended":             {kea + "fd77::1,00:03:00:01:52:54:00:12:34:56,600,1795169200,1,600,0,7,128,0,0,,,0\n", "line 2: fd77::1: expired\n"},
		"a machine with big ends": {
			"authoring-byte-order big-endian;\nia-na \"\\000\\000\\000\\007duid\" {\n iaaddr fd77::1 {\n  ends 6 2026/11/21 10:00:00;\n }\n}\n",
			"fd77::1 64756964 7 \"\" 2026-11-21 10:00\n",
		},
		"two addresses of one association, and more": {
			"ia-na \"\\007\\000\\000\\000d {\\\"u\" {\n cltt 6 2026/11/21 18:27:11;\n iaaddr fd77::2 {\n  binding state active;\n  ends epoch 1795172400;\n }\n" +
				" iaaddr fd77::1 {\n  binding state active;\n }\n}\nia-na \"\\007\\000\\000\\000duid\" {\n iaaddr fd77::3 {\n",
			"fd77::2 64207b2275 7 \"\" 2026-11-20 11:00\nline 7: fd77::1: without an end\nline 12: the last block: not whole\n",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if f, err := Parse(strings.NewReader(tt.text), "", now); err != nil || describe(f) != tt.want {
				t.Errorf("Parse = %v\n%swant\n%s", err, describe(f), tt.want)
			}
		})
	}
}

func TestWhatCannotBeReadIsSaidWithItsLine(t *testing.T) {
	const kea = "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state\n"
	const kea6 = "address,duid,valid_lifetime,expire,subnet_id,pref_lifetime,lease_type,iaid,prefix_len,fqdn_fwd,fqdn_rev,hostname,hwaddr,state\n"
	tests := map[string]struct{ text, want string }{
		"another file":         {"\n\nroot:x:0:0\n", `line 3: not a lease file`},
		"nothing":              {"\n\n", "the file is empty"},
		"dnsmasq: a word less": {"1795172400 52:54:00:12:34:56 10.77.0.101 a *\n1795172400 x\n", "line 2: not a lease of dnsmasq"},
		"dnsmasq: no address":  {"1795172400 52:54:00:12:34:56 10.77.0 a *\n", `line 1: address: "10.77.0"`},
		"isc: no time":         {"lease 10.77.0.1 {\n  ends tomorrow;\n}\n", `line 2: time: "tomorrow"`},
		"isc: no block":        {"lease 10.77.0.1 {\n}\n}\n", "line 3: a block ends"},
		"kea: no address":      {kea + "x,,,600,1795172400,1,0,0,,0\n", `line 2: address: "x"`},
		"kea: no state":        {kea + "10.77.0.1,,,600,1795172400,1,0,0,,9\n", `line 2: state: "9"`},
		"kea: few values":      {kea + "10.77.0.1\n", "line 2: 1 values"},
		"kea6: few columns":    {"address,duid,valid_lifetime,expire\n", `line 1: no column "lease_type"`},
		"kea6: IPv4":           {kea6 + "10.77.0.1,00:03:00:01:52:54:00:12:34:56,600,1795172400,1,600,0,7,128,0,0,,,0\n", `line 2: address: "10.77.0.1"`},
		"kea6: another type":   {kea6 + "fd77::1,00:03:00:01:52:54:00:12:34:56,600,1795172400,1,600,3,7,128,0,0,,,0\n", `line 2: type: "3"`},
		"kea6: large IAID":     {kea6 + "fd77::1,00:03:00:01:52:54:00:12:34:56,600,1795172400,1,600,0,4294967296,128,0,0,,,0\n", `line 2: IAID: "4294967296"`},
		"dnsmasq6: no IAID":    {"duid 00:01\n1795172400 52:54:00:12:34:56 fd77::1 a *\n", `line 2: IAID: "52:54:00:12:34:56"`},
		"dnsmasq6: IPv4":       {"duid 00:01\n1795172400 1 10.77.0.1 a *\n", `line 2: address: "10.77.0.1"`},
		"isc6: no association": {"ia-na \"abc\" {\n", "line 1: association"},
		"isc6: no address":     {"ia-na \"abcd\\000\\001xy\" {\n  iaaddr 10.77.0.1 {\n", `line 2: address: "10.77.0.1"`},
		"a line without end":   {"1795172400 " + strings.Repeat("x", maxLine+1), "token too long"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if f, err := Parse(strings.NewReader(tt.text), "", now); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Parse = %+v, %v; want %q", f, err, tt.want)
			}
		})
	}
}

// Whatever a file says, what comes out are leases: of addresses that differ,
// with clean names, that have not ended.
func FuzzLeaseFiles(f *testing.F) {
	for _, name := range []string{"dnsmasq.leases", "dhcpd.leases", "kea-leases4.csv", "dnsmasq4.leases", "dhcpd4.leases", "kea4.csv", "dnsmasq6.leases", "dhcpd6.leases", "kea-leases6.csv"} {
		raw, err := os.ReadFile("testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		file, err := Parse(bytes.NewReader(raw), "", now)
		if err != nil {
			return
		}
		for i, l := range file.Leases {
			switch {
			case !l.Addr.Is4() || l.MAC.Hardware() == nil || !l.Expires.After(now) || l.State != fleet.LeaseBound:
				t.Errorf("lease %+v", l)
			case i > 0 && !file.Leases[i-1].Addr.Less(l.Addr):
				t.Errorf("leases %s and %s", file.Leases[i-1].Addr, l.Addr)
			case l.Hostname != "" && !fleet.ValidName(l.Hostname):
				t.Errorf("name %q", l.Hostname)
			}
		}
		for i, l := range file.Leases6 {
			switch {
			case !l.Addr.Is6() || l.Addr.Is4In6() || l.Addr.Zone() != "" || len(l.DUID) < 6 || len(l.DUID) > 260 || !l.Expires.After(now) || l.State != fleet.LeaseBound:
				t.Errorf("lease %+v", l)
			case i > 0 && !file.Leases6[i-1].Addr.Less(l.Addr):
				t.Errorf("leases %s and %s", file.Leases6[i-1].Addr, l.Addr)
			}
		}
	})
}
