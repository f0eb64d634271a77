package fleet

import (
	"net/netip"
	"time"
)

// A Role is what a node does in its cluster.
type Role string

// The roles of a cluster member.
const (
	Manager Role = "manager"
	Worker  Role = "worker"
)

// A Trust level says how well we know that a machine is the one it claims
// to be.
type Trust int

// The levels of trust.
const (
	T0 Trust = iota // its MAC address says so
	T1              // it redeemed a one-use boot ticket that we gave to its address
	T2              // its TPM proved it
)

// A Node is one machine.
type Node struct {
	ID    NodeID
	Name  string // host name; "" until a pool gave it one
	MAC   MAC    // the card it booted from
	MACs  []MAC  // all of its cards
	UUID  string // SMBIOS UUID in RFC 9562 form; "" when the firmware has none
	Addr  netip.Addr
	Place Place
	Trust Trust

	Stage  StageName
	Pool   PoolName
	Role   Role
	Labels map[string]string

	State    State
	Phase    Phase
	Progress int     // percent of Phase, 0 to 100
	Failure  Failure // why it is Failed, Quarantined, or what was last wrong

	Run       RunID  // the run that works on it; "" when none
	BootID    string // of the ramdisk that said hello last
	BootKey   string // hex SHA-256 of that ramdisk's public key: the only boot certificate that counts
	BMC       BMC
	Inventory Inventory
	System    System // what is installed on its disk
	Rescue    Stay   // in the rescue system; zero while it is not there
	Member    Member // what its cluster says

	FirstSeen time.Time
	LastSeen  time.Time // last word from its agent
	Approved  bool
	Revision  int64 // grows by one with each stored change
}

// WasApproved reports whether somebody approved the node at some time, and nobody
// retired it since: networks that serve known nodes only serve it.
func (n Node) WasApproved() bool {
	return n.State != Discovered && n.State != Retired && n.State != ""
}

// Title returns the name that people know the node by.
func (n Node) Title() string {
	if n.Name != "" {
		return n.Name
	}
	return string(n.MAC)
}

// A Failure says why a node stopped, in a form that people and programs read.
type Failure struct {
	Code  Code
	Phase Phase
	Text  string
	Hint  string

	Console string // the last lines on its serial console; hostile text without control characters
}

// A System is what was last installed on a node.
type System struct {
	Image       ImageName
	Digest      string // "sha256:…" of the raw image
	Profile     string
	Revision    string // hash of the profile that was installed
	Disk        string // stable id of the disk
	InstalledAt time.Time
}

// A Stay is a node's time in the rescue system.
type Stay struct {
	From  State // what it was, and becomes again
	Since time.Time
	Once  bool // chosen in its own menu: over when it starts again
}

// MayRescueItself reports whether the rescue system may be chosen in the menu
// of a machine, which everybody can who stands before it. It may not while a
// run trusts the machine, nor when a disk was written: the key of the node and
// the data of its stage may be on it.
func (n Node) MayRescueItself() bool {
	blank := n.System.Disk == "" && n.System.InstalledAt.IsZero()
	return blank && n.Run == "" && (n.State == "" || n.State == Discovered || n.State == Ready || n.State == Failed || n.State == Rescue && n.Rescue.Once)
}

// A Member is a node's place in its cluster, as the cluster's managers say.
type Member struct {
	Cluster     string // the cluster's own ID
	NodeID      string // the node's ID in the cluster
	Role        Role
	ConfirmedAt time.Time
}
