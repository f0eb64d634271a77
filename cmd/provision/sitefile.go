package main

import (
	"errors"
	"fmt"

	"github.com/rackstage/provision/fleet"
	ipxescripts "github.com/rackstage/provision/ipxe-scripts"
)

// The shape of site.yaml. It is its own set of types, so that the words of
// the file and the words of the program can each be right.

type siteFile struct {
	Stages   []stageFile   `yaml:"stages"`
	Profiles []profileFile `yaml:"profiles"`
	Pools    []poolFile    `yaml:"pools"`
	Subnets  []subnetFile  `yaml:"subnets"`
	Rules    []ruleFile    `yaml:"rules"`
	Scripts  []scriptFile  `yaml:"scripts"`
	Quirks   []quirkFile   `yaml:"quirks"`
	Factory  []factoryFile `yaml:"bmc_accounts"`
	BMCCA    []string      `yaml:"bmc_ca"` // files with certificates

	BMCQuirks []bmcQuirkFile `yaml:"bmc_quirks"`
	Firmware  []firmwareFile `yaml:"firmware"`

	Menu      bool `yaml:"menu"`       // every machine shows the boot menu
	IPXEShell bool `yaml:"ipxe_shell"` // the menu offers iPXE's shell
}

type scriptFile struct {
	Name  string   `yaml:"name"`
	Pools []string `yaml:"pools"`
	Nodes []string `yaml:"nodes"` // names or MAC addresses
	IPXE  string   `yaml:"ipxe"`  // a template
	GRUB  string   `yaml:"grub"`  // the same for machines with GRUB
}

type stageFile struct {
	Name     string `yaml:"name"`
	Registry string `yaml:"registry"` // host[:port]
}

type profileFile struct {
	Name    string   `yaml:"name"`
	Image   string   `yaml:"image"`
	Disk    diskFile `yaml:"disk"`
	SSHKeys []string `yaml:"ssh_keys"`
	Kernel  []string `yaml:"kernel"` // further kernel arguments
	Menu    bool     `yaml:"menu"`   // its machines show the boot menu

	BIOS []biosFile `yaml:"bios"` // settings, by model
}

type diskFile struct {
	Serial  string `yaml:"serial"`
	Model   string `yaml:"model"`
	MinGiB  int    `yaml:"min_gib"`
	MaxGiB  int    `yaml:"max_gib"`
	Type    string `yaml:"type"` // ssd, hdd, nvme
	Largest bool   `yaml:"largest"`
}

type poolFile struct {
	Name     string            `yaml:"name"`
	Stage    string            `yaml:"stage"`
	Profile  string            `yaml:"profile"`
	Cluster  string            `yaml:"cluster"` // swarm, none
	Managers int               `yaml:"managers"`
	Labels   map[string]string `yaml:"labels"`
	Trust    int               `yaml:"trust"`   // 0, 1, 2: the least that a node must prove
	Options  []optionFile      `yaml:"options"` // DHCP options of its nodes
	Console  string            `yaml:"console"` // record: always, not only while a run works on a node

	Firmware string `yaml:"firmware"` // before a node is installed: leave, update, where-possible
	BIOS     string `yaml:"bios"`     // likewise: leave, apply, where-possible
}

type ruleFile struct {
	Name    string            `yaml:"name"`
	Match   matchFile         `yaml:"match"`
	Pool    string            `yaml:"pool"`
	Role    string            `yaml:"role"` // manager, worker; "" lets the plan choose
	Labels  map[string]string `yaml:"labels"`
	Approve bool              `yaml:"approve"`
	BMC     bmcFile           `yaml:"bmc"`
}

type matchFile struct {
	MAC          string `yaml:"mac"` // first bytes: 52:54:00
	Vendor       string `yaml:"vendor"`
	Product      string `yaml:"product"`
	Serial       string `yaml:"serial"`
	AssetTag     string `yaml:"asset_tag"` // glob
	Subnet       string `yaml:"subnet"`
	SwitchPort   string `yaml:"switch_port"` // start of system/port
	CircuitID    string `yaml:"circuit_id"`  // start of option 82.1
	RemoteID     string `yaml:"remote_id"`   // start of option 82.2
	MinMemoryMiB int    `yaml:"min_memory_mib"`
}

// ParseSite reads a site.yaml. Whatever is wrong in it is said with line,
// arrow and suggestion.
func ParseSite(src []byte) (fleet.Site, error) { return parseSite("site.yaml", src) }

// parseSite checks it further, as a server does that knows what it can serve.
func parseSite(name string, src []byte, further ...func(fleet.Site) error) (fleet.Site, error) {
	var file siteFile
	doc, err := readDocument(name, src, &file)
	if err != nil {
		return fleet.Site{}, siteError(err)
	}
	if err := file.checkSize(doc); err != nil {
		return fleet.Site{}, siteError(err)
	}
	site, err := file.site()
	if err == nil { // what cannot be read need not be checked
		err = site.Validate()
	}
	for _, check := range further {
		if err == nil {
			err = check(site)
		}
	}
	if err != nil {
		return fleet.Site{}, siteError(doc.place(err))
	}
	return site, nil
}

// maxEntries bounds each list of a site: checking compares entries with each
// other.
const maxEntries = 4096

func (f siteFile) checkSize(doc document) error {
	for key, n := range map[string]int{
		"stages": len(f.Stages), "profiles": len(f.Profiles), "pools": len(f.Pools), "subnets": len(f.Subnets), "rules": len(f.Rules),
		"scripts": len(f.Scripts), "quirks": len(f.Quirks), "bmc_accounts": len(f.Factory), "firmware": len(f.Firmware),
		"bmc_quirks": len(f.BMCQuirks), "bmc_ca": len(f.BMCCA),
	} {
		if n > maxEntries {
			return doc.place(fleet.Invalidf(key, "", fmt.Errorf("%d %s; at most %d are taken", n, key, maxEntries)))
		}
	}
	return nil
}

func siteError(err error) error { return &fleet.Error{Kind: fleet.Invalid, Code: "E-SITE", Err: err} }

// site turns the words of the file into the declared world.
func (f siteFile) site() (fleet.Site, error) {
	r := &reader{}
	var s fleet.Site
	for _, st := range f.Stages {
		s.Stages = append(s.Stages, fleet.Stage{Name: fleet.StageName(st.Name), Registry: st.Registry})
	}
	for _, t := range f.Firmware {
		s.Firmware = append(s.Firmware, fleet.FirmwareTarget(t))
	}
	for i, p := range f.Profiles {
		s.Profiles = append(s.Profiles, r.profile(fmt.Sprintf("profiles[%d]", i), p))
	}
	for i, p := range f.Pools {
		s.Pools = append(s.Pools, r.pool(fmt.Sprintf("pools[%d]", i), p))
	}
	for i, n := range f.Subnets {
		s.Subnets = append(s.Subnets, r.subnet(fmt.Sprintf("subnets[%d]", i), n))
	}
	for i, rule := range f.Rules {
		s.Rules = append(s.Rules, r.rule(fmt.Sprintf("rules[%d]", i), rule))
	}
	for i, script := range f.Scripts {
		s.Scripts = append(s.Scripts, r.script(fmt.Sprintf("scripts[%d]", i), script))
	}
	s.Menu, s.IPXEShell = f.Menu, f.IPXEShell
	for _, a := range f.Factory {
		s.Factory = append(s.Factory, a.account())
	}
	for _, file := range f.BMCCA {
		s.BMCCA = append(s.BMCCA, fleet.Authority{File: file})
	}
	for _, q := range f.Quirks {
		s.Quirks = append(s.Quirks, q.quirk())
	}
	for i, q := range f.BMCQuirks {
		s.BMCProfiles = append(s.BMCProfiles, r.bmcProfile(fmt.Sprintf("bmc_quirks[%d]", i), q))
	}
	return s, errors.Join(r.errs...)
}

// A reader reads values and remembers which of them it could not.
type reader struct{ errs []error }

func (r *reader) bad(on, hint, format string, args ...any) {
	r.errs = append(r.errs, fleet.Invalidf(on, hint, fmt.Errorf(format, args...)))
}

func (r *reader) profile(on string, p profileFile) fleet.Profile {
	switch p.Disk.Type {
	case "", "ssd", "hdd", "nvme":
	default:
		r.bad(on+".disk.type", "use ssd, hdd or nvme", "unknown disk type %q", p.Disk.Type)
	}
	if p.Disk.MinGiB < 0 || p.Disk.MaxGiB < 0 || (p.Disk.MaxGiB > 0 && p.Disk.MaxGiB < p.Disk.MinGiB) {
		r.bad(on+".disk.max_gib", "", "no disk is between %d and %d GiB", p.Disk.MinGiB, p.Disk.MaxGiB)
	}
	return fleet.Profile{
		Name: p.Name, Image: fleet.ImageName(p.Image), SSHKey: p.SSHKeys, Kernel: p.Kernel, Menu: p.Menu, BIOS: r.bios(on, p.BIOS),
		Disk: fleet.DiskRule{
			Serial: p.Disk.Serial, Model: p.Disk.Model, MinGiB: p.Disk.MinGiB, MaxGiB: p.Disk.MaxGiB,
			Type: p.Disk.Type, Largest: p.Disk.Largest,
		},
	}
}

const consoleRecord = "record"

func (r *reader) pool(on string, p poolFile) fleet.Pool {
	if p.Trust < int(fleet.T0) || p.Trust > int(fleet.T2) {
		r.bad(on+".trust", "use 0 (MAC), 1 (one-use boot ticket) or 2 (TPM)", "unknown trust level %d", p.Trust)
	}
	if p.Console != "" && p.Console != consoleRecord {
		r.bad(on+".console", "write console: record, or leave it out", "unknown policy %q", p.Console)
	}
	cluster := fleet.ClusterKind(p.Cluster)
	if cluster == "" {
		cluster = fleet.NoCluster
	}
	return fleet.Pool{
		Name: fleet.PoolName(p.Name), Stage: fleet.StageName(p.Stage), Profile: p.Profile,
		Cluster: cluster, Managers: p.Managers, Labels: p.Labels, Trust: fleet.Trust(p.Trust), Options: r.options(on, p.Options),
		RecordConsole: p.Console == consoleRecord,
		Firmware:      r.setup(on+".firmware", p.Firmware, "update"), BIOS: r.setup(on+".bios", p.BIOS, "apply"),
	}
}

func (r *reader) rule(on string, f ruleFile) fleet.Rule {
	if f.Match.MinMemoryMiB < 0 {
		r.bad(on+".match.min_memory_mib", "", "%d MiB is less than nothing", f.Match.MinMemoryMiB)
	}
	return fleet.Rule{
		Name: f.Name, Pool: fleet.PoolName(f.Pool), Role: fleet.Role(f.Role), Labels: f.Labels, Approve: f.Approve,
		BMC: r.bmc(on+".bmc", f.BMC),
		Match: fleet.Match{
			MACPrefix: f.Match.MAC, Vendor: f.Match.Vendor, Product: f.Match.Product, Serial: f.Match.Serial,
			AssetTag: f.Match.AssetTag, Subnet: f.Match.Subnet, SwitchPortPrefix: f.Match.SwitchPort,
			CircuitPrefix: f.Match.CircuitID, RemotePrefix: f.Match.RemoteID, MinMemoryMiB: f.Match.MinMemoryMiB,
		},
	}
}

// script reads an operator's script, and says what is wrong with it now and
// not to the machine that boots it.
func (r *reader) script(on string, f scriptFile) fleet.Script {
	s := fleet.Script{Name: f.Name, Nodes: f.Nodes, IPXE: f.IPXE, GRUB: f.GRUB}
	for _, p := range f.Pools {
		s.Pools = append(s.Pools, fleet.PoolName(p))
	}
	if f.IPXE != "" {
		if _, err := ipxescripts.Compile(f.Name, f.IPXE); err != nil {
			r.bad(on+".ipxe", "try it with: provision templates lint FILE.ipxe", "%w", err)
		}
	}
	if f.GRUB != "" {
		if _, err := ipxescripts.CompileGRUB(f.Name, f.GRUB); err != nil {
			r.bad(on+".grub", "try it with: provision templates lint FILE.cfg", "%w", err)
		}
	}
	return s
}
