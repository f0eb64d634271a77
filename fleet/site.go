package fleet

// A Site is the declared world: what site.yaml says.
type Site struct {
	Stages   []Stage
	Pools    []Pool
	Profiles []Profile
	Subnets  []Subnet
	Rules    []Rule
	Scripts  []Script
	Quirks   []Quirk // the first that fits counts
	Factory  []FactoryAccount
	Firmware []FirmwareTarget // versions that models shall have

	BMCProfiles []BMCProfile // the first that fits counts
	BMCCA       []Authority  // whose signature on a BMC's TLS certificate is enough

	// Begun are passwords of ours that BMCs may have got before they said whose
	// they are, each for one MAC address. They are not of site.yaml.
	Begun []FactoryAccount

	Menu      bool // every machine shows the boot menu
	IPXEShell bool // the menu offers iPXE's own shell, which can load anything from anywhere
}

// A Stage is an environment, such as dev, tst or prd.
type Stage struct {
	Name     StageName
	Registry string // host[:port] of its registry; "" for none
}

// A ClusterKind names a kind of cluster.
type ClusterKind string

// The kinds of clusters.
const (
	Swarm     ClusterKind = "swarm"
	NoCluster ClusterKind = "none"
)

// A Pool is a set of nodes of one stage with one purpose.
type Pool struct {
	Name     PoolName
	Stage    StageName
	Profile  string
	Cluster  ClusterKind
	Managers int // how many nodes are managers of the cluster; the rest are workers
	Labels   map[string]string
	Trust    Trust        // the least that a node must prove
	Options  []DHCPOption // for its nodes, over those of their class and subnet

	RecordConsole bool // always; otherwise while a run works on a node

	Firmware SetupPolicy // before a node is installed: to the versions that the site declares
	BIOS     SetupPolicy // likewise: to the settings of its profile
}

// A Profile says what a node of a pool becomes.
type Profile struct {
	Name   string
	Image  ImageName
	Disk   DiskRule
	SSHKey []string // authorized keys of the administrator account; none: no login
	Kernel []string // further kernel arguments of the installed system
	Menu   bool     // its machines show the boot menu
	BIOS   []BIOSSettings
}

// A Rule turns what was discovered into a pool and an approval. The first
// rule that matches decides. An empty field matches everything.
type Rule struct {
	Name    string
	Match   Match
	Pool    PoolName
	Role    Role // "" lets the plan choose
	Labels  map[string]string
	Approve bool // true: no person has to approve
	BMC     BMCAccess
}

// A Match says which machines a rule is for. All fields that are set must
// hold.
type Match struct {
	MACPrefix        string // "52:54:00"
	Vendor           string // contained in the SMBIOS vendor, ignoring case
	Product          string // contained in the SMBIOS product, ignoring case
	Serial           string // exactly
	AssetTag         string // glob, as in path.Match
	Subnet           string // name of the subnet that its address is in
	SwitchPortPrefix string // start of "system/port" as LLDP tells it
	CircuitPrefix    string // start of the circuit id that its DHCP relay puts in
	RemotePrefix     string // start of the remote id, likewise
	MinMemoryMiB     int
}

// Pool returns the pool with this name.
func (s Site) Pool(name PoolName) (Pool, bool) {
	for _, p := range s.Pools {
		if p.Name == name {
			return p, true
		}
	}
	return Pool{}, false
}

// Profile returns the profile with this name.
func (s Site) Profile(name string) (Profile, bool) {
	for _, p := range s.Profiles {
		if p.Name == name {
			return p, true
		}
	}
	return Profile{}, false
}
