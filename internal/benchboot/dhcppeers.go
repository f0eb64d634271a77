package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A dhcpServer is one that takes part.
type dhcpServer struct {
	name  string
	start func(ctx context.Context, l *link, dir string) (*process, error)
}

// Ours is first. Its leases are on stable storage before an ACK leaves; what
// the others do is in their comments.
func dhcpServers() []dhcpServer {
	return []dhcpServer{
		{"provision", startProvision},
		{"kea-memfile", startKea},
		{"dhcpd", startDhcpd},
		{"dnsmasq", startDnsmasq},
	}
}

const dhcpSite = `subnets:
  - name: bench
    cidr: 10.0.0.0/8
    mode: full
    ranges: [10.1.0.0-10.99.255.255]
    router: 10.0.0.1
    dns: [10.0.0.1]
    domain: bench.example
    probe: false   # the others do not ask either
    lease: 1h
`

func startProvision(ctx context.Context, l *link, dir string) (*process, error) {
	st, err := l.provision(ctx, dir, dhcpSite)
	if err != nil {
		return nil, err
	}
	return st.process, nil
}

// Kea with its lease file: written, but never synced.
func startKea(ctx context.Context, l *link, dir string) (*process, error) {
	return startKeaWith(ctx, l, dir, "")
}

// startKeaPXE has Kea name a loader for UEFI, as ours does.
func startKeaPXE(ctx context.Context, l *link, dir string) (*process, error) {
	return startKeaWith(ctx, l, dir, `
  "client-classes": [{"name": "uefi", "test": "option[93].hex == 0x0007", "next-server": "10.0.0.1", "boot-file-name": "`+pxeLoader+`",
    "option-data": [{"name": "vendor-class-identifier", "data": "PXEClient"}]}],`)
}

func startKeaWith(ctx context.Context, l *link, dir, more string) (*process, error) {
	p, err := l.b.peer("kea-dhcp4")
	if err != nil {
		return nil, err
	}
	conf := fmt.Sprintf(`{"Dhcp4": {%s
  "interfaces-config": {"interfaces": [%q], "dhcp-socket-type": "udp"},
  "lease-database": {"type": "memfile", "persist": true, "name": "%s/leases.csv", "lfc-interval": 0},
  "multi-threading": {"enable-multi-threading": %t, "thread-pool-size": %d},
  "sanity-checks": {"lease-checks": "none"},
  "valid-lifetime": 3600, "renew-timer": 1800, "rebind-timer": 3150,
  "subnet4": [{"id": 1, "subnet": "10.0.0.0/8", "pools": [{"pool": "10.1.0.0 - 10.99.255.255"}],
    "option-data": [{"name": "routers", "data": "10.0.0.1"}, {"name": "domain-name-servers", "data": "10.0.0.1"},
      {"name": "domain-name", "data": "bench.example"}]}],
  "loggers": [{"name": "kea-dhcp4", "severity": "ERROR", "output_options": [{"output": "stderr"}]}]
}}`, more, serverIface, dir, l.b.unpinned, l.b.cores())
	file := filepath.Join(dir, "kea.json")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return nil, err
	}
	env := append(p.env, "KEA_PIDFILE_DIR="+dir, "KEA_LOCKFILE_DIR=none", "KEA_DHCP_DATA_DIR="+dir)
	return l.start(ctx, env, p.path, "-c", file)
}

// dhcpd syncs its lease file before each ACK. Its pool is small: it keeps free
// leases in a sorted list, and 262,144 of them take it 20 ms a packet.
func startDhcpd(ctx context.Context, l *link, dir string) (*process, error) {
	p, err := l.b.peer("dhcpd")
	if err != nil {
		return nil, err
	}
	conf := `authoritative; ping-check false; default-lease-time 3600; max-lease-time 3600;
subnet 10.0.0.0 netmask 255.0.0.0 {
  range 10.1.0.0 10.1.63.255; option routers 10.0.0.1; option domain-name-servers 10.0.0.1; option domain-name "bench.example";
}
`
	file, leases := filepath.Join(dir, "dhcpd.conf"), filepath.Join(dir, "dhcpd.leases")
	for name, text := range map[string]string{file: conf, leases: ""} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	return l.start(ctx, p.env, p.path, "-f", "-4", "-q", "-user", "root", "-group", "root",
		"-cf", file, "-lf", leases, "-pf", filepath.Join(dir, "pid"), serverIface)
}

// dnsmasq syncs its lease file before each ACK, and writes it anew each time.
func startDnsmasq(ctx context.Context, l *link, dir string) (*process, error) {
	p, err := l.b.peer("dnsmasq")
	if err != nil {
		return nil, err
	}
	args := strings.Fields(fmt.Sprintf(`--keep-in-foreground --conf-file=/dev/null --user=root --group=root --port=0
		--no-ping --dhcp-authoritative --dhcp-lease-max=10000000 --dhcp-leasefile=%[1]s/leases --pid-file=%[1]s/pid --quiet-dhcp --interface=%[2]s
		--dhcp-range=10.1.0.0,10.99.255.255,255.0.0.0,1h --dhcp-option=option:router,10.0.0.1 --dhcp-option=option:dns-server,10.0.0.1
		--domain=bench.example`, dir, serverIface))
	return l.start(ctx, p.env, append([]string{p.path}, args...)...)
}
