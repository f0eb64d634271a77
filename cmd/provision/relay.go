package main

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/relay"
)

// relayFlags are what `provision relay` is told. Its server is the --server
// that every command has.
type relayFlags struct {
	ifaces      []string
	stateDir    string
	cacheGiB    int
	dhcpServer  string
	dhcp6Server string
	chained     bool
	logLevel    string
}

func newRelayCmd(a *app) *cobra.Command {
	var f relayFlags
	cmd := &cobra.Command{
		Use:   "relay --iface IFACE",
		Short: "Run an edge in a network without a server: DHCP relay, boot files, cache",
		Long: `enrols with the token in --token-file, once. Then it relays the machines' DHCP to the server, serves loaders, kernel, ramdisk and
image chunks from a cache that it has checked, and carries the agents'
connections to the server. While the server is away, known nodes keep their
address and boot their disk.`,
		Example: `  provision relays add west --subnet west-boot > token      on the server
  sudo provision relay --server https://10.77.0.1:8443 --token-file token --iface eth1
  sudo provision relay --iface eth1                         from then on`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := a.relayOptions(f)
			if err != nil {
				return err
			}
			syscall.Umask(0o077) // nothing that a relay writes is for others
			r, err := relay.Open(cmd.Context(), o)
			if err != nil {
				return err
			}
			_, _ = daemon.SdNotify(false, daemon.SdNotifyReady) // without systemd nobody listens
			return r.Run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&f.ifaces, "iface", nil, "`interfaces` with machines behind them")
	flags.StringVar(&f.stateDir, "state-dir", "/var/lib/provision-relay", "`folder` of identity, cache and what the server said last")
	flags.IntVar(&f.cacheGiB, "cache-gib", 20, "`GiB` of the cache at most")
	flags.StringVar(&f.dhcpServer, "dhcp-server", "", "`address` that DHCP goes to (default the server's)")
	flags.StringVar(&f.dhcp6Server, "dhcp6-server", "", "`address` that DHCPv6 goes to (default the server's, if it has one)")
	flags.BoolVar(&f.chained, "chained", false, "believe DHCP relays behind this one")
	flags.StringVar(&f.logLevel, "log-level", "info", "`level` of the log: debug, info, warn, error")
	return cmd
}

func (a *app) relayOptions(f relayFlags) (relay.Options, error) {
	o := relay.Options{
		Interfaces: f.ifaces, StateDir: f.stateDir, CacheLimit: int64(f.cacheGiB) << 30, Chained: f.chained, Version: version,
		Log: a.logger(config{LogLevel: f.logLevel}),
	}
	server := a.global.server
	if server == "" {
		server = a.getenv("PROVISION_SERVER")
	}
	if server != "" {
		target, err := checkAddress(server)
		if err != nil {
			return o, err
		}
		if !strings.HasPrefix(target, "https://") {
			return o, usagef("a relay reaches its server over the network: --server https://HOST:8443")
		}
		o.Server = target
	}
	if f.dhcpServer != "" {
		addr, err := netip.ParseAddr(f.dhcpServer)
		if err != nil || !addr.Is4() {
			return o, usagef("--dhcp-server %q is no IPv4 address", f.dhcpServer)
		}
		o.DHCPServer = netip.AddrPortFrom(addr, 67)
	}
	if f.dhcp6Server != "" {
		addr, err := netip.ParseAddr(f.dhcp6Server)
		if err != nil || !addr.Is6() || addr.IsMulticast() || addr.IsLinkLocalUnicast() {
			return o, usagef("--dhcp6-server %q is no IPv6 address that can be reached from elsewhere", f.dhcp6Server)
		}
		o.DHCP6Server = netip.AddrPortFrom(addr, 547)
	}
	if a.global.tokenFile != "" {
		raw, err := os.ReadFile(a.global.tokenFile)
		if err != nil {
			return o, &exitError{code: exitUsage, err: fmt.Errorf("read token: %w", err)}
		}
		if len(raw) > maxPasswordFile {
			return o, fleet.Invalidf("token file "+a.global.tokenFile, "it holds one line", fmt.Errorf("it has %d bytes", len(raw)))
		}
		o.Token = strings.TrimSpace(string(raw))
	}
	return o, nil
}
