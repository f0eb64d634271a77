package api

// The kernel command line of the ramdisk tells the agent where its server
// is. Nothing on it is of use twice.
const (
	ArgServer = "provision.server" // "https://10.77.0.1:8443"
	ArgCA     = "provision.ca"     // "sha256:<hex>" of the server's CA certificate (DER)
	ArgTicket = "provision.ticket" // one-use ticket for the hello
	ArgRescue = "provision.rescue" // in the place of the first three: a shell is wanted, from this server
	ArgKey    = "provision.key"    // "ssh-ed25519:AAAA…": who may sign in there
	ArgMAC    = "BOOTIF"           // "01-52-54-00-12-34-56", as PXELINUX writes it
)

// Paths of the agent's API, on the TLS listener.
const (
	PathHello   = "/agent/v1/hello"   // POST HelloRequest → HelloReply; no client certificate
	PathPoll    = "/agent/v1/poll"    // POST PollRequest → PollReply; client certificate
	PathJoin    = "/agent/v1/join"    // POST JoinRequest → JoinReply; stage certificate
	PathCertify = "/agent/v1/certify" // POST CertifyRequest → CertifyReply; client certificate
	PathImage   = "/agent/v1/images/" // GET …{name}?digest=sha256:… → ImageIndex; client certificate
	PathRack    = "/agent/v1/rack"    // POST RackRequest → RackReply; client certificate
)

// PathChunks is where image chunks are, on the plain boot listener too:
// GET /chunks/<first 4 hex digits>/<64 hex digits>.cacnk, zstd. They are public and their
// name is their content's SHA-512/256.
const PathChunks = "/chunks/"

// HelloRequest is the first word of an agent in the ramdisk.
type HelloRequest struct {
	Ticket    string    `json:"ticket"`
	CSR       string    `json:"csr"` // PEM, ECDSA P-256 or Ed25519; subject is ignored
	BootID    string    `json:"boot_id"`
	MAC       string    `json:"mac"` // the card it booted from
	UUID      string    `json:"uuid"`
	Version   string    `json:"version"`
	Inventory Inventory `json:"inventory"`
}

// HelloReply makes the machine a node.
type HelloReply struct {
	NodeID      string `json:"node_id"`
	Certificate string `json:"certificate"` // PEM, short-lived
}

// PollRequest asks for the next step and reports on the current one.
type PollRequest struct {
	BootID    string      `json:"boot_id"`
	Installed bool        `json:"installed"` // from the installed system, not the ramdisk
	Version   string      `json:"version"`
	Report    *StepReport `json:"report,omitempty"`
	Inventory *Inventory  `json:"inventory,omitempty"` // when it changed since the hello: an LLDP neighbour was heard
	Wait      int         `json:"wait"`                // seconds to wait for a step, at most 30
}

// PollReply is the next step, or none. The step that is under way comes again
// until its report says done or failed.
type PollReply struct {
	Step *Step `json:"step,omitempty"`
}

// Step kinds. The first group runs in the ramdisk, the second on the
// installed system.
const (
	StepPowerOff  = "power_off"
	StepDisk      = "disk"
	StepWrite     = "write"
	StepSeed      = "seed"
	StepBootEntry = "boot_entry"
	StepReboot    = "reboot"
	StepBMC       = "bmc"

	StepDocker = "docker"
	StepJoin   = "join"
)

// Step is one thing to do; the fields beside ID and Kind belong to the kind.
type Step struct {
	ID     string         `json:"id"`
	Kind   string         `json:"kind"`
	Disk   *DiskOrder     `json:"disk,omitempty"`
	Write  *WriteOrder    `json:"write,omitempty"`
	Seed   *SeedOrder     `json:"seed,omitempty"`
	Docker *DockerRequest `json:"docker,omitempty"`
	Join   *JoinTicket    `json:"join,omitempty"`
	BMC    *BMCOrder      `json:"bmc,omitempty"`
}

// DiskOrder names the planned disk: the agent fails with E-DISK-OTHER before
// anything is written when what it finds is not exactly that, and with
// E-DISK-SMALL when it is smaller than MinBytes.
type DiskOrder struct {
	ID       string `json:"id"`
	Serial   string `json:"serial"`
	Bytes    int64  `json:"bytes"`
	MinBytes int64  `json:"min_bytes"`
}

// WriteOrder names image and disk. Chunks come from the base URLs in order.
type WriteOrder struct {
	DiskID string   `json:"disk_id"`
	Image  string   `json:"image"`
	Digest string   `json:"digest"`
	Chunks []string `json:"chunks"` // base URLs: "http://10.77.0.1/chunks/"
}

// RackRequest says that a node fetches an image, and where it hands the chunks
// that it has to the others of its rack.
type RackRequest struct {
	Digest string `json:"digest"` // of the image
	Port   uint16 `json:"port"`   // TCP, HTTP; 0: no more
}

// RackReply names the nodes of the rack that fetch the same image now, the
// asking one among them.
type RackReply struct {
	Self  string   `json:"self"`  // "10.77.0.12:40112", as the others know it
	Peers []string `json:"peers"` // likewise; at most MaxRackPeers
	Every int      `json:"every"` // seconds until it asks again
}

// MaxRackPeers is how many nodes feed each other at most.
const MaxRackPeers = 64

// SeedOrder is what the installed system finds on its disk. The agent adds
// its new key and certificate (PathCertify) and its own configuration.
type SeedOrder struct {
	DiskID string     `json:"disk_id"`
	Files  []SeedFile `json:"files"`
}

// SeedFile is one file below the root of the installed system.
type SeedFile struct {
	Path string `json:"path"`
	Mode uint32 `json:"mode"`
	Data []byte `json:"data"`
}

// DockerRequest is one request to the local Docker engine. The agent
// refuses paths that are not on its short list.
type DockerRequest struct {
	Method string `json:"method"`
	Path   string `json:"path"`
	Body   []byte `json:"body,omitempty"`
}

// DockerResponse is the engine's answer.
type DockerResponse struct {
	Status int    `json:"status"`
	Body   []byte `json:"body,omitempty"`
}

// JoinTicket is redeemed at PathJoin, once.
type JoinTicket struct {
	Ticket string `json:"ticket"`
}

// StepReport says how far a step is.
type StepReport struct {
	StepID   string          `json:"step_id"`
	State    string          `json:"state"` // running, done, failed
	Progress int             `json:"progress"`
	Code     string          `json:"code,omitempty"`
	Text     string          `json:"text,omitempty"`
	Docker   *DockerResponse `json:"docker,omitempty"`
	Joined   *Joined         `json:"joined,omitempty"`
	BMC      *BMCReport      `json:"bmc,omitempty"`
}

// BMCOrder is an account to be made on the machine's BMC. It is in no file and
// no log, on either side.
type BMCOrder struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

// BMCReport is what the machine's BMC is, and the account that was made there.
type BMCReport struct {
	Slot         int    `json:"slot"`
	Channel      int    `json:"channel"`
	Address      string `json:"address,omitempty"`
	Source       string `json:"source,omitempty"` // static, dhcp, bios, other
	MAC          string `json:"mac,omitempty"`
	Manufacturer int    `json:"manufacturer"` // IANA enterprise number
	Product      int    `json:"product"`
	Firmware     string `json:"firmware,omitempty"`
	Users        int    `json:"users"` // other accounts that are enabled
}

// Joined is what a node says of itself after it joined.
type Joined struct {
	ClusterID string `json:"cluster_id"`
	NodeID    string `json:"node_id"`
}

// CertifyRequest asks for the certificate of the node's stage. It is granted
// while the node is being installed, and to renew.
type CertifyRequest struct {
	CSR string `json:"csr"`
}

// CertifyReply is the certificate, and the CA that the server's own
// certificate comes from.
type CertifyReply struct {
	Certificate string `json:"certificate"` // PEM
	ServerCA    string `json:"server_ca"`   // PEM
}

// JoinRequest redeems a join ticket.
type JoinRequest struct {
	Ticket string `json:"ticket"`
}

// JoinReply is how to join. It is in no file and no log, on either side.
type JoinReply struct {
	Token     string   `json:"token"`
	Managers  []string `json:"managers"`
	Advertise string   `json:"advertise"`
}

// ImageIndex lists the chunks of an image, in order of offset.
type ImageIndex struct {
	Name   string  `json:"name"`
	Digest string  `json:"digest"` // of the raw image
	Size   int64   `json:"size"`
	Chunks []Chunk `json:"chunks"`
}

// Chunk is one piece of an image.
type Chunk struct {
	ID     string `json:"id"` // hex of SHA-512/256 of the raw bytes
	Offset int64  `json:"offset"`
	Size   int64  `json:"size"`
	Zero   bool   `json:"zero,omitempty"` // nothing but zeros: not sent
}

// Inventory is what an agent found in its machine.
type Inventory struct {
	Vendor    string       `json:"vendor"`
	Product   string       `json:"product"`
	Serial    string       `json:"serial"`
	AssetTag  string       `json:"asset_tag"`
	Firmware  string       `json:"firmware"` // bios, uefi
	BIOS      string       `json:"bios"`
	Secure    bool         `json:"secure_boot"`
	CPU       CPU          `json:"cpu"`
	MemoryMiB int          `json:"memory_mib"`
	Disks     []Disk       `json:"disks"`
	NICs      []NIC        `json:"nics"`
	BMC       InventoryBMC `json:"bmc"`
	TPM       string       `json:"tpm"`
	Arch      string       `json:"arch"`
}

// CPU is the processors of a machine, taken together.
type CPU struct {
	Model   string `json:"model"`
	Sockets int    `json:"sockets"`
	Cores   int    `json:"cores"`
	Threads int    `json:"threads"`
}

// Disk is one whole block device.
type Disk struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Model      string `json:"model"`
	Serial     string `json:"serial"`
	Bytes      int64  `json:"bytes"`
	Rotational bool   `json:"rotational"`
	Removable  bool   `json:"removable"`
	ReadOnly   bool   `json:"read_only"`
	Holds      string `json:"holds"`
}

// NIC is one network card.
type NIC struct {
	Name   string `json:"name"`
	MAC    string `json:"mac"`
	Driver string `json:"driver"`
	Up     bool   `json:"up"`
	Speed  int    `json:"speed_mbit"`
	LLDP   LLDP   `json:"lldp"`
}

// LLDP is the neighbour that a card heard.
type LLDP struct {
	Chassis string `json:"chassis"`
	Port    string `json:"port"`
	System  string `json:"system"`
}

// InventoryBMC is what the machine says about its own BMC.
type InventoryBMC struct {
	Present bool   `json:"present"`
	Address string `json:"address"`
	MAC     string `json:"mac"`
}
