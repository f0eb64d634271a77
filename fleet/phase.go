package fleet

import "time"

// A Phase is a place in the chain of facts from power-on to membership. The
// order of [Phases] is the order in which they happen; a diagnosis is the
// last one seen, the one that should have followed, and how long ago.
type Phase string

// The phases of a boot and an install. The first two are there for pools that
// want them.
const (
	PhaseFirmware  Phase = "firmware"   // its firmware has the declared versions
	PhaseBIOS      Phase = "bios"       // its BIOS settings are those of its profile
	PhasePower     Phase = "power"      // our power-on was acknowledged by the BMC
	PhaseDHCP      Phase = "dhcp"       // the firmware's first DISCOVER
	PhaseLoader    Phase = "loader"     // network boot program requested
	PhaseScript    Phase = "script"     // boot script fetched
	PhaseKernel    Phase = "kernel"     // kernel and ramdisk fetched
	PhaseHello     Phase = "hello"      // our agent said hello
	PhaseDisk      Phase = "disk"       // disk checked against the plan, signatures wiped
	PhaseWrite     Phase = "write"      // image written
	PhaseSeed      Phase = "seed"       // seed and identity written
	PhaseReboot    Phase = "reboot"     // told to restart from disk
	PhaseFirstBoot Phase = "first_boot" // the installed system's agent said hello
	PhaseDocker    Phase = "docker"     // its Docker engine answers
	PhaseJoin      Phase = "join"       // joined its cluster
	PhaseActive    Phase = "active"     // confirmed by the cluster and activated
)

// Setup reports whether the phase is before the boot that installs a machine:
// what boots in it is not that one.
func (p Phase) Setup() bool { return p == PhaseFirmware || p == PhaseBIOS }

// Phases returns all phases in order.
func Phases() []Phase {
	return []Phase{
		PhaseFirmware, PhaseBIOS,
		PhasePower, PhaseDHCP, PhaseLoader, PhaseScript, PhaseKernel, PhaseHello, PhaseDisk, PhaseWrite,
		PhaseSeed, PhaseReboot, PhaseFirstBoot, PhaseDocker, PhaseJoin, PhaseActive,
	}
}

// Evidence is one fact of a boot: what was seen, when, and its details. The
// details come from the machine and are hostile text.
type Evidence struct {
	At     time.Time
	MAC    MAC
	Phase  Phase  // that the machine has reached; "": it proves nothing, and is for people to read
	Detail string // one line, such as "arch 7 class PXEClient from 10.77.0.11"

	// What a program can go by, where it is known: in the words of package pxe.
	Firmware string // who asked: "rom", "http", "ipxe"
	Platform string // "uefi-x64"
	File     string // that was offered, or fetched
	PassedOn bool   // its PXE was told to end, so that it boots by HTTP
	Whole    bool   // the ramdisk has left us to its last byte: the machine has all that it needs to start our agent
	Place    Place  // where the machine is plugged in; zero when the fact says nothing about it
}

// An EventType names a kind of event; see the constants.
type EventType string

// The events of a node's and a run's life.
const (
	EventDiscovered EventType = "node.discovered"
	EventChanged    EventType = "node.changed" // state or pool changed
	EventEvidence   EventType = "node.evidence"
	EventProgress   EventType = "node.progress" // not stored, shown live only
	EventFailed     EventType = "node.failed"
	EventUnexpected EventType = "node.unexpected" // hardware surprised us
	EventPower      EventType = "node.power"
	EventConsole    EventType = "node.console" // somebody opened its console, or took the keyboard
	EventRun        EventType = "run.changed"
	EventSite       EventType = "site.applied"
	EventAccess     EventType = "access.changed" // sign-in, approval, denied request
	EventAlarm      EventType = "alarm.raised"
	EventAlarmOver  EventType = "alarm.cleared"
)

// An Event is a fact about a node, a run or a user's act. Events are
// append-only: the timeline of the console and the audit log are views of
// them. They never carry a secret.
type Event struct {
	Seq   int64 // grows by one with each event; 0 for those that are not stored
	At    time.Time
	Type  EventType
	Node  NodeID   // "" when it is not about one node
	Pool  PoolName // "" likewise
	Run   RunID    // "" likewise
	Actor string   // who did it: a user, "engine", "node"
	Text  string   // one line for people
}
