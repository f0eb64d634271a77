package archtest_test

import (
	"os"
	"testing"

	"github.com/rackstage/provision/internal/archtest"
)

// rules are those of this program. docs/architecture.md has the picture.
var rules = archtest.Rules{
	Module: "github.com/rackstage/provision",
	Allowed: map[string][]string{
		"fleet":        {},
		"api":          {},
		"ipxe-scripts": {},
		"web":          {},

		"templates": {"fleet"},
		"pxe":       {"fleet"},
		"store":     {"fleet", "store/sqlite3"},
		"bmc":       {"fleet"},
		"cluster":   {"fleet"},
		"image":     {"fleet"},
		"image/iso": {},
		"access":    {"fleet"},
		"engine":    {"fleet", "internal/throttle"},
		"console":   {"fleet"},

		"store/sqlite3":  {},
		"pxe/lessons":    {"fleet", "pxe"}, // of boots, about models
		"pxe/tftp":       {"internal/porthold"},
		"dhcp":           {"fleet", "pxe", "internal/mmsg", "internal/porthold", "internal/repeat", "internal/sockbuf", "internal/throttle", "dhcp/alarm", "dhcp/commit", "dhcp/foreign", "dhcp/links", "dhcp/takeover", "dhcp/usage"},
		"dhcp/alarm":     {},
		"dhcp/commit":    {"fleet"},
		"dhcp/foreign":   {"fleet"},
		"dhcp/leasefile": {"fleet"},
		"dhcp/links":     {"internal/repeat"},
		"dhcp/takeover":  {"fleet"},
		"dhcp/usage":     {"fleet", "dhcp/alarm", "internal/repeat"},
		"dhcp/dhcp6":     {"fleet", "pxe", "internal/porthold", "internal/repeat", "internal/sockbuf", "internal/throttle", "dhcp/alarm", "dhcp/commit", "dhcp/links", "dhcp/takeover", "dhcp/usage"},
		"http":           {"fleet", "console", "pxe", "ipxe-scripts", "templates", "web", "api", "access", "http/bootfile", "image/iso", "internal/porthold", "internal/throttle"},
		"http/bootfile":  {},
		"cluster/swarm":  {"fleet", "cluster"},

		"relay": {"fleet", "api", "dhcp", "dhcp/dhcp6", "dhcp/foreign", "pxe", "pxe/tftp", "ipxe-scripts", "http/bootfile", "internal/neighbour", "internal/porthold", "internal/repeat", "internal/sockbuf", "internal/throttle"},

		"agent":           {"api", "agent/..."},
		"agent/bmc":       {"api", "agent/fault"},
		"agent/chunk":     {"api", "agent/fault", "agent/retry"},
		"agent/disk":      {"api", "agent/fault", "agent/retry"},
		"agent/docker":    {"api", "agent/fault", "agent/retry"},
		"agent/efi":       {},
		"agent/fault":     {},
		"agent/inventory": {"api", "agent/disk"},
		"agent/ramdisk":   {"api", "agent/retry"},
		"agent/rescue":    {"agent/retry"},
		"agent/retry":     {},

		"lab":         {"api", "lab/redfish"},
		"lab/redfish": {}, // a BMC that speaks Redfish

		"bmc/bmctest":         {"fleet", "bmc"},
		"bmc/oob":             {"fleet", "bmc"},
		"cluster/clustertest": {"fleet", "cluster"},

		"cmd/agent":     {"..."},
		"cmd/provision": {"..."},

		"internal/archtest":  {},
		"internal/browser":   {},                                                 // for tests: a headless browser
		"internal/bench":     {"internal/figure"},                                // the figures of `make bench`
		"internal/benchbmc":  {"bmc", "fleet", "lab/redfish", "internal/figure"}, // the figures of `make bench-bmc`
		"internal/benchboot": {"..."},                                            // the figures of `make bench-boot`
		"internal/figure":    {},
		"internal/golden":    {},        // what a test made, beside what was reviewed
		"internal/firewall":  {},        // what the kernel would drop
		"internal/pcap":      {},        // captures of real machines
		"internal/porthold":  {"fleet"}, // who holds a port
		"internal/mmsg":      {},        // many packets in one system call
		"internal/neighbour": {},        // hardware addresses of machines on our links
		"internal/netns":     {},        // network namespaces for tests
		"internal/repeat":    {},        // again and again
		"internal/sockbuf":   {},        // room for packets
		"internal/throttle":  {},        // rates and connections of each peer
	},
	TestSupport: []string{"bmc/bmctest", "cluster/clustertest", "internal/browser", "internal/golden", "internal/netns"},
	StdOnly:     []string{"fleet", "api", "pxe", "ipxe-scripts", "web", "internal/archtest", "internal/porthold", "http/bootfile", "image/iso", "lab/redfish"},
	OnlyIn: map[string][]string{
		"github.com/labstack/echo/v4":      {"http"},
		"github.com/coder/websocket":       {"http", "cmd/provision"},
		"github.com/danielgtaylor/huma/v2": {"http"},
		"gorm.io":                          {"store"},
		"github.com/glebarez/sqlite":       {"store"},
		"modernc.org":                      {"store/sqlite3"}, // the engine that the driver has inside
		"github.com/go-gormigrate":         {"store"},
		"github.com/pin/tftp/v3":           {"pxe/tftp"},
		"github.com/insomniacslk/dhcp":     {"dhcp/...", "agent/...", "lab"},
		"github.com/bmc-toolbox/bmclib/v2": {"bmc"},
		"github.com/jacobweinstock":        {"bmc"},
		"github.com/stmcginnis/gofish":     {"lab/redfish"},
		"github.com/go-logr/logr":          {"bmc"},
		"github.com/gosnmp/gosnmp":         {"bmc"},
		"github.com/bougou/go-ipmi":        {"bmc", "agent/...", "lab", "internal/benchbmc"},
		"github.com/containerd/errdefs":    {"cluster/..."},
		"github.com/moby/moby":             {"cluster/..."},
		"github.com/folbricht/desync":      {"image", "agent/..."},
		"github.com/klauspost/compress":    {"image", "relay", "agent/..."},
		"github.com/u-root/u-root":         {"image"},
		"github.com/vishvananda/netlink":   {"dhcp", "relay", "agent/...", "lab", "internal/neighbour"},
		"github.com/google/nftables":       {"internal/firewall"},
		"github.com/spf13/cobra":           {"cmd/provision"},
		"github.com/spf13/pflag":           {"cmd/provision"},
		"github.com/goccy/go-yaml":         {"cmd/provision", "templates"},
		"github.com/coreos/go-systemd/v22": {"cmd/provision"},
		"github.com/cenkalti/backoff/v5":   {"..."},
		"golang.org/x/crypto/argon2":       {"access"},
		"golang.org/x/net/dns/dnsmessage":  {"cmd/provision", "relay"}, // of relay its tests
		"golang.org/x/crypto/ssh":          {"agent/rescue", "bmc", "bmc/bmctest", "cmd/provision"},
		"golang.org/x/crypto":              {"access"},
		"golang.org/x/net/ipv4":            {"dhcp", "relay", "pxe/tftp"},
		"golang.org/x/net/bpf":             {"dhcp/foreign"},       // replies of other servers
		"golang.org/x/net/icmp":            {"dhcp", "dhcp/dhcp6"}, // echo before an offer, router advertisements
		"golang.org/x/net/ipv6":            {"dhcp/dhcp6", "agent/ramdisk", "relay"},
		"golang.org/x/sync":                {"..."},
		"golang.org/x/sys":                 {"..."},
		"golang.org/x/term":                {"cmd/provision"},
	},
	OnlyInTests: []string{"github.com/google/go-cmp", "go.uber.org/goleak", "github.com/rogpeppe/go-internal"},
}

func TestPackagesImportWhatTheyMay(t *testing.T) {
	wrong, err := archtest.Check(os.DirFS("../.."), rules)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range wrong {
		t.Error(w)
	}
}
