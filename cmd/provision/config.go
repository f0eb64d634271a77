package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

// A config is all that can be set about this program: provision.yaml,
// PROVISION_* variables and flags. What is declared about machines is in
// site.yaml.
type config struct {
	StateDir  string       `yaml:"state_dir"`  // database, keys, images, boot files
	Listen    listenConfig `yaml:"listen"`     // where the server listens
	Advertise advertise    `yaml:"advertise"`  // how machines and people reach it
	TFTP      tftpConfig   `yaml:"tftp"`       // how boot files go by TFTP
	Site      string       `yaml:"site"`       // site.yaml to apply at start; "" keeps what was applied last
	DemoLogin bool         `yaml:"demo_login"` // let demo/demo look at the console
	LogLevel  string       `yaml:"log_level"`  // debug, info, warn, error
	Mirror    string       `yaml:"mirror"`     // Debian mirror for image builds; "" takes the one of this host's apt
	SealKey   string       `yaml:"seal_key"`   // file of the keys that secrets are sealed with; "" keeps our own in the state folder
	Agent     string       `yaml:"agent"`      // agent binary that goes into images; "" takes the one beside this program
	BMC       bmcConfig    `yaml:"bmc"`        // how BMCs are treated
	Client    clientConfig `yaml:"client"`     // how commands reach the server
}

type listenConfig struct {
	DHCP      []string `yaml:"dhcp"`       // interfaces; none: no DHCP and no TFTP
	HTTP      string   `yaml:"http"`       // boot files, plain
	BootHTTPS string   `yaml:"boot_https"` // boot files over TLS, for UEFI HTTP boot; "" for none
	HTTPS     string   `yaml:"https"`      // API, console, agents
	Console   string   `yaml:"console"`    // plain console for this machine only; "" for none
	Socket    string   `yaml:"socket"`     // API for root on this machine, without sign-in
}

type tftpConfig struct {
	SinglePort bool `yaml:"single_port"` // send all from port 69, for firewalls
}

type bmcConfig struct {
	Interval time.Duration `yaml:"interval"` // pause between two conversations with one BMC
	Limit    int           `yaml:"limit"`    // conversations at the same time, with all BMCs together

	CheckEvery time.Duration `yaml:"check_every"` // how often each is asked how its machine is; 0: never
}

// leastCheck keeps BMCs from being asked all the time: some freeze.
const leastCheck = time.Minute

// every is what the engine is told: there, 0 is the usual.
func (c bmcConfig) every() time.Duration {
	if c.CheckEvery == 0 {
		return -1
	}
	return c.CheckEvery
}

type advertise struct {
	Address string   `yaml:"address"` // address that machines fetch boot files from; "" takes the interface's
	Names   []string `yaml:"names"`   // further names and addresses in the server's certificate
}

type clientConfig struct {
	Server    string `yaml:"server"`     // unix:PATH or https://HOST:PORT
	TokenFile string `yaml:"token_file"` // file with the token to sign in with
	CAFile    string `yaml:"ca_file"`    // PEM file of the server's CA
	CAPin     string `yaml:"ca_pin"`     // sha256:… of the server's CA certificate
}

func defaultConfig() config {
	return config{
		StateDir: "/var/lib/provision",
		Listen:   listenConfig{HTTP: ":80", HTTPS: ":8443", Socket: api.DefaultSocket},
		BMC:      bmcConfig{Interval: 500 * time.Millisecond, Limit: 256, CheckEvery: 10 * time.Minute},
		LogLevel: "info",
	}
}

// A setting is one value of the configuration, by its key. Its variable is
// PROVISION_ and the key, its flag the key with dashes.
type setting struct {
	key, usage string
	value      func(*config) pflag.Value
}

var settings = []setting{
	{"state_dir", "`folder` of database, keys, images and boot files", func(c *config) pflag.Value { return (*textValue)(&c.StateDir) }},
	{"listen.dhcp", "`interfaces` to serve DHCP and TFTP on", func(c *config) pflag.Value { return (*listValue)(&c.Listen.DHCP) }},
	{"listen.http", "`address` of the plain boot server", func(c *config) pflag.Value { return (*textValue)(&c.Listen.HTTP) }},
	{"listen.boot_https", "`address` of the boot server with TLS", func(c *config) pflag.Value { return (*textValue)(&c.Listen.BootHTTPS) }},
	{"listen.https", "`address` of API, console and agents", func(c *config) pflag.Value { return (*textValue)(&c.Listen.HTTPS) }},
	{"listen.console", "loopback `address` of a plain console", func(c *config) pflag.Value { return (*textValue)(&c.Listen.Console) }},
	{"listen.socket", "`path` of the socket for commands on this machine", func(c *config) pflag.Value { return (*textValue)(&c.Listen.Socket) }},
	{"advertise.address", "`address` that machines fetch boot files from", func(c *config) pflag.Value { return (*textValue)(&c.Advertise.Address) }},
	{"advertise.names", "further `names` in the server's certificate", func(c *config) pflag.Value { return (*listValue)(&c.Advertise.Names) }},
	{"tftp.single_port", "send all of TFTP from port 69, for firewalls", func(c *config) pflag.Value { return (*boolValue)(&c.TFTP.SinglePort) }},
	{"bmc.interval", "`pause` between two conversations with one BMC", func(c *config) pflag.Value { return (*durationValue)(&c.BMC.Interval) }},
	{"bmc.limit", "`number` of BMCs that are spoken to at the same time", func(c *config) pflag.Value { return (*countValue)(&c.BMC.Limit) }},
	{"site", "site.yaml `file` to apply at start", func(c *config) pflag.Value { return (*textValue)(&c.Site) }},
	{"demo_login", "let demo/demo look at the console", func(c *config) pflag.Value { return (*boolValue)(&c.DemoLogin) }},
	{"log_level", "`level` of the log: debug, info, warn, error", func(c *config) pflag.Value { return (*textValue)(&c.LogLevel) }},
	{"bmc.check_every", "`time` between two checkups of a machine by its BMC; 0 for none", func(c *config) pflag.Value { return (*durationValue)(&c.BMC.CheckEvery) }},
	{"mirror", "Debian mirror `URL` for image builds", func(c *config) pflag.Value { return (*textValue)(&c.Mirror) }},
	{"seal_key", "`file` of the keys that secrets are sealed with", func(c *config) pflag.Value { return (*textValue)(&c.SealKey) }},
	{"agent", "agent binary `file` that goes into images", func(c *config) pflag.Value { return (*textValue)(&c.Agent) }},
	{"client.server", "", func(c *config) pflag.Value { return (*textValue)(&c.Client.Server) }},
	{"client.token_file", "", func(c *config) pflag.Value { return (*textValue)(&c.Client.TokenFile) }},
	{"client.ca_file", "", func(c *config) pflag.Value { return (*textValue)(&c.Client.CAFile) }},
	{"client.ca_pin", "", func(c *config) pflag.Value { return (*textValue)(&c.Client.CAPin) }},
}

// variable is the name of the setting in the environment. The client's part
// has no prefix of its own: PROVISION_SERVER, PROVISION_TOKEN_FILE.
func (s setting) variable() string {
	key := strings.TrimPrefix(s.key, "client.")
	return "PROVISION_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

func (s setting) flag() string { return strings.NewReplacer(".", "-", "_", "-").Replace(s.key) }

// addSettings gives a command flags for some settings, by key.
func addSettings(flags *pflag.FlagSet, keys ...string) {
	shown := defaultConfig()
	for _, s := range settings {
		if slices.Contains(keys, s.key) {
			f := flags.VarPF(s.value(&shown), s.flag(), "", s.usage+" ("+s.variable()+")")
			if f.Value.Type() == "bool" {
				f.NoOptDefVal = "true"
			}
		}
	}
}

// serverSettings are the keys that `provision serve` has flags for.
func serverSettings() (keys []string) {
	for _, s := range settings {
		if !strings.HasPrefix(s.key, "client.") && s.key != "mirror" && s.key != "agent" {
			keys = append(keys, s.key)
		}
	}
	return keys
}

// An origin says where a value came from.
type origin struct {
	name string    // "--state-dir", "PROVISION_STATE_DIR", or a file
	doc  *document // set for a file
}

// loadConfig reads the configuration: flag, then PROVISION_*, then file, then
// default. Unknown keys and values that make no sense are errors.
func (a *app) loadConfig(flags *pflag.FlagSet) (config, error) {
	conf := defaultConfig()
	from := map[string]origin{}
	if err := a.readConfigFiles(&conf, from); err != nil {
		return config{}, err
	}
	for _, s := range settings {
		if v := a.getenv(s.variable()); v != "" {
			if err := s.value(&conf).Set(v); err != nil {
				return config{}, usagef("%s=%s: %w", s.variable(), v, err)
			}
			from[s.key] = origin{name: s.variable()}
		}
		if flags == nil {
			continue
		}
		if f := flags.Lookup(s.flag()); f != nil && f.Changed {
			if err := s.value(&conf).Set(f.Value.String()); err != nil {
				return config{}, usagef("--%s %s: %w", s.flag(), f.Value, err)
			}
			from[s.key] = origin{name: "--" + s.flag()}
		}
	}
	return conf, placeConfig(conf.check(), from)
}

// clientConfig is the configuration of a command that only talks to a server.
func (a *app) clientConfig() (config, error) {
	conf, err := a.loadConfig(nil)
	if a.global.tokenFile != "" {
		conf.Client.TokenFile = a.global.tokenFile
	}
	return conf, err
}

// readConfigFiles reads the file that was named, or else those that are where
// configuration is looked for. Of a file in the current folder, which may be
// anybody's, only the client's part counts.
func (a *app) readConfigFiles(conf *config, from map[string]origin) error {
	named := a.global.config
	if named == "" {
		named = a.getenv("PROVISION_CONFIG")
	}
	if named != "" {
		return readConfigFile(named, conf, from)
	}
	paths := []string{"/etc/provision/provision.yaml"}
	if dir := a.userConfigDir(); dir != "" {
		paths = append(paths, filepath.Join(dir, "provision", "config.yaml"))
	}
	for _, p := range paths {
		if err := readConfigFile(p, conf, from); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	local := *conf
	if err := readConfigFile("provision.yaml", &local, from); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	conf.Client = local.Client
	return nil
}

func (a *app) userConfigDir() string {
	if dir := a.getenv("XDG_CONFIG_HOME"); dir != "" {
		return dir
	}
	if home := a.getenv("HOME"); home != "" {
		return filepath.Join(home, ".config")
	}
	return ""
}

func readConfigFile(name string, conf *config, from map[string]origin) error {
	src, err := os.ReadFile(name)
	if err != nil {
		return &exitError{code: exitUsage, err: fmt.Errorf("read configuration: %w", err)}
	}
	doc, err := readDocument(name, src, conf)
	if err != nil {
		return &fleet.Error{Kind: fleet.Invalid, Code: "E-CONFIG", Err: err}
	}
	for _, s := range settings {
		if doc.has(s.key) {
			from[s.key] = origin{name: name, doc: &doc}
		}
	}
	return nil
}

// has reports whether a path leads somewhere in the document.
func (d document) has(path string) bool {
	node := d.root
	for _, p := range parsePath(path) {
		at, next := child(node, p)
		if at == nil {
			return false
		}
		node = next
	}
	return true
}

// placeConfig says of each fault where its value came from.
func placeConfig(err error, from map[string]origin) error {
	if err == nil {
		return nil
	}
	var placed []error
	for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
		known, _ := errors.AsType[*fleet.Error](e)
		o := from[known.On]
		if o.doc != nil {
			placed = append(placed, o.doc.place(known))
			continue
		}
		if o.name != "" {
			known.On = o.name
		}
		placed = append(placed, known)
	}
	if len(placed) == 1 {
		return &fleet.Error{Kind: fleet.Invalid, Code: "E-CONFIG", Err: placed[0]}
	}
	return &fleet.Error{Kind: fleet.Invalid, Code: "E-CONFIG", Err: errors.Join(placed...)}
}

// check returns what makes no sense, each as a [fleet.Error] whose On is the
// key; nil when all is well.
func (c config) check() error {
	var errs []error
	bad := func(on, hint, format string, args ...any) {
		errs = append(errs, fleet.Invalidf(on, hint, fmt.Errorf(format, args...)))
	}
	if !filepath.IsAbs(c.StateDir) {
		bad("state_dir", "write the whole path", "%q is not an absolute path", c.StateDir)
	}
	if c.SealKey != "" && !filepath.IsAbs(c.SealKey) {
		bad("seal_key", "write the whole path", "%q is not an absolute path", c.SealKey)
	}
	if d := c.BMC.CheckEvery; d != 0 && d < leastCheck {
		bad("bmc.check_every", "write a time such as 10m, at least 1m, or 0 for never", "BMCs are not asked every %s", d)
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.LogLevel) {
		bad("log_level", "use debug, info, warn or error", "unknown level %q", c.LogLevel)
	}
	for on, addr := range map[string]string{"listen.http": c.Listen.HTTP, "listen.https": c.Listen.HTTPS, "listen.console": c.Listen.Console, "listen.boot_https": c.Listen.BootHTTPS} {
		if addr == "" && (on == "listen.console" || on == "listen.boot_https") {
			continue
		}
		if _, _, err := net.SplitHostPort(addr); err != nil {
			bad(on, "write HOST:PORT, or :PORT for all addresses", "%q is not an address to listen on", addr)
		}
	}
	if host, _, err := net.SplitHostPort(c.Listen.Console); err == nil && !isLoopback(host) {
		bad("listen.console", "use 127.0.0.1:PORT; from elsewhere the console is on listen.https", "the plain console may listen on a loopback address only, not %q", host)
	}
	if c.BMC.Interval < 0 || c.BMC.Interval > time.Minute {
		bad("bmc.interval", "write 500ms, 2s, at most 1m", "a pause of %s", c.BMC.Interval)
	}
	if c.BMC.Limit < 1 || c.BMC.Limit > 4096 {
		bad("bmc.limit", "use 1 to 4096", "%d BMCs at the same time", c.BMC.Limit)
	}
	if a := c.Advertise.Address; a != "" {
		if _, err := netip.ParseAddr(a); err != nil {
			bad("advertise.address", "", "%q is not an IP address", a)
		}
	}
	if len(errs) == 0 {
		return nil
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}
