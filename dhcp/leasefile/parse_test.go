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
line 4: 10.77.0.104: expired
line 5: 10.77.0.105: without the address of an Ethernet card
line 7: fd77::101: not an IPv4 address
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

func TestWhatCannotBeReadIsSaidWithItsLine(t *testing.T) {
	const kea = "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state\n"
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
		"kea of DHCPv6":        {"address,duid,valid_lifetime,expire\n", "line 1: this is a lease file of DHCPv6"},
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
	for _, name := range []string{"dnsmasq.leases", "dhcpd.leases", "kea-leases4.csv"} {
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
	})
}
