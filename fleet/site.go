package fleet

import "net/netip"

// A Site is the declared world: what site.yaml says.
type Site struct {
	Stages   []Stage
	Pools    []Pool
	Profiles []Profile
	Subnets  []Subnet
	Rules    []Rule
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
	Trust    Trust // the least that a node must prove
}

// A Profile says what a node of a pool becomes.
type Profile struct {
	Name   string
	Image  ImageName
	Disk   DiskRule
	SSHKey []string // authorized keys of the administrator account; none: no login
	Kernel []string // further kernel arguments of the installed system
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
	MinMemoryMiB     int
}

// BMCAccess is how to sign in to the BMCs of the machines that a rule
// matches. The password itself stays in its file, sealed once it is read.
type BMCAccess struct {
	Username       string
	PasswordFile   string
	SealedPassword string // filled in by whoever read the file
}

// A DHCPMode says what the DHCP server does on a subnet.
type DHCPMode string

// The DHCP modes. A subnet that says nothing observes.
const (
	Observe  DHCPMode = "observe"  // listens, answers nobody
	Proxy    DHCPMode = "proxy"    // boot information only, beside another server
	Reserved DHCPMode = "reserved" // full service for known nodes only
	Full     DHCPMode = "full"     // addresses and boot information for everybody
)

// A Subnet is one IPv4 network that machines boot from.
type Subnet struct {
	Name   string
	CIDR   netip.Prefix
	Mode   DHCPMode
	Ranges []AddrRange  // dynamic addresses; used in mode full
	Router netip.Addr   // option 3; invalid: not sent
	DNS    []netip.Addr // option 6
	NTP    []netip.Addr // option 42
	Domain string       // option 15
	Lease  int          // seconds; 0: 3600
	Server netip.Addr   // address that boot files are fetched from; invalid: the one that the request came in on
}

// An AddrRange is a range of addresses, both ends included.
type AddrRange struct{ First, Last netip.Addr }

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

// SubnetOf returns the subnet that contains addr.
func (s Site) SubnetOf(addr netip.Addr) (Subnet, bool) {
	for _, n := range s.Subnets {
		if n.CIDR.Contains(addr) {
			return n, true
		}
	}
	return Subnet{}, false
}
