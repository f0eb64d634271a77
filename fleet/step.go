package fleet

import "net/netip"

// A StepKind names something that an agent does.
type StepKind string

// The steps of an agent. The first group runs in the ramdisk, the second on
// the installed system.
const (
	StepWait      StepKind = "wait"       // nothing to do: ask again
	StepPowerOff  StepKind = "power_off"  // switch the machine off
	StepDisk      StepKind = "disk"       // check the planned disk, wipe its signatures
	StepWrite     StepKind = "write"      // write the image, verified
	StepSeed      StepKind = "seed"       // write identity and first-boot data
	StepBootEntry StepKind = "boot_entry" // make the firmware boot from the disk
	StepReboot    StepKind = "reboot"     // restart from the disk
	StepBMC       StepKind = "bmc"        // make an account on the machine's BMC

	StepDocker StepKind = "docker" // one request to the local Docker engine
	StepJoin   StepKind = "join"   // redeem a ticket and join the cluster
)

// A Step is one thing that a node's agent is asked to do. Steps are safe to
// repeat: the same ID again means "how far are you with it".
type Step struct {
	ID     string // unique over all runs and attempts
	Kind   StepKind
	Disk   *DiskOrder
	Write  *WriteOrder
	Seed   *SeedOrder
	Docker *DockerRequest
	Join   *JoinTicket
	BMC    *BMCOrder
}

// A DiskOrder says which disk is planned. An agent that does not find exactly
// this disk fails before it writes anything.
type DiskOrder struct {
	ID       string
	Serial   string
	Bytes    int64 // size that it had when it was planned
	MinBytes int64 // size of the image
}

// A WriteOrder says which image goes to which disk.
type WriteOrder struct {
	DiskID string
	Image  ImageName
	Digest string // "sha256:…" of the image's index: names exactly one version of it
}

// A SeedOrder is what the installed system finds on its disk. None of it is
// secret: the agent makes its key itself.
type SeedOrder struct {
	DiskID string
	Files  []SeedFile
}

// A SeedFile is one file below the root of the installed system.
type SeedFile struct {
	Path string // absolute
	Mode uint32
	Data []byte
}

// A DockerRequest is one request to the Docker engine's API on a node.
type DockerRequest struct {
	Method string
	Path   string // with query: "/swarm", "/nodes?filters=…"
	Body   []byte
}

// A DockerResponse is the engine's answer.
type DockerResponse struct {
	Status int
	Body   []byte
}

// A JoinTicket lets the agent fetch its [JoinOrder], once.
type JoinTicket struct {
	Secret string
}

// A JoinOrder is how to join: it is made when the ticket is redeemed and
// kept nowhere.
type JoinOrder struct {
	Token     string
	Managers  []string // host:port
	Advertise string   // own address to advertise
}

// A Joined is what a node says of itself after it joined.
type Joined struct {
	ClusterID string
	NodeID    string
}

// A StepState is how far an agent is with a step.
type StepState string

// The states of a step.
const (
	StepRunning StepState = "running"
	StepDone    StepState = "done"
	StepFailed  StepState = "failed"
)

// A StepReport is what an agent says about a step.
type StepReport struct {
	StepID   string
	State    StepState
	Progress int // percent
	Failure  Failure
	Docker   *DockerResponse
	Joined   *Joined
	BMC      *BMCReport
}

// A Session is one start of an agent: of the ramdisk, or of the service on
// the installed system. Its boot ID tells a restart from a reconnect.
type Session struct {
	Node      NodeID
	BootID    string
	Installed bool // the service of the installed system, not the ramdisk
	Version   string
	Addr      netip.Addr // that it calls from
}
