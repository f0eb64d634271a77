package http

import (
	"context"
	"crypto/x509"
	"net/netip"
	"time"

	"github.com/rackstage/provision/access"
	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

// Boots answers what a booting machine's requests need. Only what changes
// something may take longer than a look into memory.
type Boots interface {
	NodeByMAC(mac fleet.MAC) (fleet.Node, bool)
	Observe(ev fleet.Evidence)
	MintHello(ctx context.Context, mac fleet.MAC, addr netip.Addr) (secret string, err error)
	OpenMedia(secret string) (fleet.MediaBoot, error)   // whose CD image a BMC asks for
	RescueOnce(ctx context.Context, mac fleet.MAC) bool // it may have the rescue system until it starts again
	EndRescueOnce(ctx context.Context, mac fleet.MAC)   // it has started again
}

// Agents is the engine as the agents on the nodes see it.
type Agents interface {
	Hello(ctx context.Context, h fleet.Hello) (fleet.Node, error)
	Poll(ctx context.Context, s fleet.Session, r *fleet.StepReport) (*fleet.Step, error)
	Refresh(ctx context.Context, node fleet.NodeID, inv fleet.Inventory) error
	RedeemJoin(ctx context.Context, node fleet.NodeID, secret string) (fleet.JoinOrder, error)
	MayCertify(ctx context.Context, node fleet.NodeID) (fleet.StageName, error)
}

// Nodes is the machines.
type Nodes interface {
	Nodes() []fleet.Node
	Node(ref string) (fleet.Node, error)
	Approve(ctx context.Context, actor, ref string) (fleet.Node, error)
	Power(ctx context.Context, actor, ref string, o fleet.PowerOrder) (fleet.PowerState, error)
	PowerDone(ctx context.Context, actor, ref string) (fleet.Node, error)
	ProbeBMC(ctx context.Context, actor, ref, system string) (fleet.Node, error)
	AcceptPin(ctx context.Context, actor, ref, pin string) (fleet.Node, error)
	RotateBMC(ctx context.Context, actor, ref string) (fleet.Node, error)
	CheckBMC(ctx context.Context, actor, ref string, power bool) (fleet.BMCCheck, error)
	BMCCheck(ctx context.Context, ref string) (fleet.BMCCheck, error) // when it is over, or ctx ends
	BIOS(ctx context.Context, ref string) (fleet.Node, fleet.BIOS, []fleet.BIOSChange, error)
	ApplyBIOS(ctx context.Context, actor, ref string, force bool) (fleet.Node, []fleet.BIOSChange, error)
	Firmware(ref string) (fleet.Node, []fleet.FirmwareUpdate, error)
	UpdateFirmware(ctx context.Context, actor, ref string, o fleet.UpdateOptions) (fleet.Node, []fleet.FirmwareUpdate, error)
	Checkup(ref string) (fleet.Node, fleet.Checkup, error)
	Examine(ctx context.Context, ref string) (fleet.Node, fleet.Checkup, error)
	ClearBMCLog(ctx context.Context, actor, ref string) (fleet.Node, fleet.Checkup, error)
	Rescue(ctx context.Context, actor, ref string, restart bool) (fleet.Node, error)
	EndRescue(ctx context.Context, actor, ref string, restart bool) (fleet.Node, error)
	ConsoleUsed(ctx context.Context, actor string, node fleet.NodeID, what string) error // somebody opened its console
}

// Runs is the plans and what came of them.
type Runs interface {
	Plan(ctx context.Context, pool fleet.PoolName) (fleet.Plan, error)
	Start(ctx context.Context, actor string, pool fleet.PoolName, o fleet.StartOptions) (fleet.Run, error)
	GetRun(id fleet.RunID) (fleet.Run, error)
	Runs() []fleet.Run // newest first
}

// Sites is the declared world.
type Sites interface {
	Site() fleet.Site
	Apply(ctx context.Context, actor string, site fleet.Site, dryRun bool) ([]string, error)
}

// Events is what happened: stored events after one, oldest first, and live
// ones. Subscribe's channel is closed when its reader is too slow; the function
// ends the subscription. Changed's channel is closed at the next change of
// any node or run.
type Events interface {
	Events(ctx context.Context, since int64, limit int) ([]fleet.Event, error)
	LastEvent() int64 // number of the newest stored one
	Subscribe() (<-chan fleet.Event, func())
	Changed() <-chan struct{}
}

// Alarms is the trouble that there is now, newest first.
type Alarms interface {
	Alarms() []fleet.Alarm
}

// Secrets is what is kept sealed.
type Secrets interface {
	Status() (api.Secrets, error)
	Rotate(ctx context.Context, actor string, keepKey bool) (api.Secrets, error)
}

// Engine is all of them: one thing implements them, tests take them apart.
type Engine interface {
	Boots
	Agents
	Nodes
	Runs
	Sites
	Events
	Alarms
}

// Network is the DHCP server as operators see it.
type Network interface {
	Foreign() []api.ForeignServer      // other servers that answer now
	Uses() map[string][]api.RangeUse   // by name of the subnet
	InterfaceOf(n fleet.Subnet) string // of ours, that is on a subnet; "" for none
	List(subnet string, after netip.Addr, limit int) []fleet.Lease
	Release(ctx context.Context, addr netip.Addr) (fleet.Lease, error)
	Import(ctx context.Context, four []fleet.Lease, six []fleet.Lease6, subnet string, dryRun bool) (api.ImportedLeases, error)
}

// Arming refuses to give out addresses where another DHCP server does.
type Arming func(ctx context.Context, before, wanted []fleet.Subnet) error

// Leases tells which machine holds an address.
type Leases interface {
	LeaseByAddr(addr netip.Addr) (fleet.Lease, bool)
	TenantAt(addr netip.Addr) (fleet.MAC, bool) // a machine that says that another server gave it to it
}

// Held tells which addresses machines hold now.
type Held interface {
	AddrsOf(macs ...fleet.MAC) []netip.Addr
}

// Images is the image store.
type Images interface {
	List() ([]api.Image, error)
	Index(name string) (api.ImageIndex, error)
	ChunkPath(id string) string // file of a chunk; id is 64 lower-case hex digits
}

// Accounts lets people in.
type Accounts interface {
	SignIn(ctx context.Context, user, password string, from netip.Addr) (token string, expires time.Time, err error)
	Identify(ctx context.Context, token string) (access.Identity, error)
	SignOut(ctx context.Context, token string) error
}

// Authority signs the certificates of nodes and recognises them again.
// Identify checks the whole chain: signature, time and purpose.
type Authority interface {
	SignBoot(csrPEM []byte, node fleet.NodeID) (certPEM []byte, err error)
	SignStage(csrPEM []byte, node fleet.NodeID, stage fleet.StageName) (certPEM []byte, err error)
	Identify(chain []*x509.Certificate) (node fleet.NodeID, stage fleet.StageName, err error) // stage "": a boot certificate
	CAPEM() []byte                                                                            // the CA of the server's own certificate
}

// RelayDesk is the relays as operators see them.
type RelayDesk interface {
	List() []fleet.Relay
	Status(name string) fleet.RelayStatus
	Add(ctx context.Context, by, name string, subnets []string) (token string, expires time.Time, err error)
	Remove(ctx context.Context, name string) error
}

// RelayGate lets relays in, and takes what they say about themselves.
type RelayGate interface {
	Enrol(ctx context.Context, token string, csrPEM []byte) (r fleet.Relay, certPEM []byte, err error)
	Renew(name string, csrPEM []byte) (certPEM []byte, err error)
	Identify(chain []*x509.Certificate) (fleet.Relay, error)
	Report(ctx context.Context, name string, s fleet.RelayStatus) error
}

// Segments is told what relays see on the machines' networks.
type Segments interface {
	Foreign(relay, subnet string, f api.RelayForeign) // another DHCP server, or a router
	MaxBlock(machine netip.Addr) int                  // of TFTP that it gets on with; 0: any
	Transferred(relay string, f api.RelayFetched)     // a file that a machine got by TFTP, or did not
}

// Relays is both.
type Relays interface {
	RelayDesk
	RelayGate
}
