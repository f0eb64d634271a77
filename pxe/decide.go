package pxe

import (
	"github.com/rackstage/provision/fleet"
)

// An Action is what a machine that asks to boot gets.
type Action string

// The actions.
const (
	Ignore    Action = "ignore"     // nothing to boot from us
	LocalDisk Action = "local_disk" // boot what is installed
	Load      Action = "loader"     // a program that the firmware runs
	Script    Action = "script"     // a script of iPXE or GRUB
)

// Scripts are the files of package ipxe-scripts that a plan can name. GRUB has
// its own form of each: see [Plan.Script].
const (
	ScriptAgent  = "agent.ipxe"  // boots the ramdisk with the agent
	ScriptRescue = "rescue.ipxe" // boots the ramdisk with a shell
	ScriptLocal  = "local.ipxe"  // boots from disk
	ScriptWait   = "wait.ipxe"   // says why there is nothing, and goes on
)

// A Plan is what a machine gets, and why.
type Plan struct {
	Action Action
	File   string // loader, or name of the script; "" when the machine gets no file
	ByHTTP bool   // the file is named by URL
	PassOn bool   // its PXE is told to end, so that the firmware goes on to what it boots from next
	Reason string // for evidence, logs and people
	Code   string // of a diagnosis, when the machine gets nothing through a fault of ours
}

// LeftToHTTP reports whether the machine is to boot what it gets by HTTP. One that
// has a system may go on to its disk as well.
func (p Plan) LeftToHTTP() bool { return p.PassOn && p.Action == Ignore }

// Decide says what a machine gets. The zero node is a machine that we do not
// know: it gets our agent, which will say hello for it.
func Decide(req Request, n fleet.Node) Plan {
	if req.Firmware == NoBoot {
		return Plan{Action: Ignore, Reason: "asks for an address only"}
	}
	if req.rechains() {
		req.Firmware = ROM
	}
	switch {
	case keepsSystem(&n):
		return localDisk(&req, &n, string(n.State)+": boots its own system")
	case n.State == fleet.Quarantined || n.State == fleet.Retired:
		return nothing(&req, string(n.State)+": gets nothing until somebody decides")
	case n.State == fleet.Rescue:
		return start(&req, &n, ScriptRescue, "rescue: boots the rescue system")
	case n.State == "":
		return start(&req, &n, ScriptAgent, "unknown: boots our agent to say hello")
	default:
		return start(&req, &n, ScriptAgent, string(n.State)+": boots our agent")
	}
}

// keepsSystem is where reinstall loops end: a node that has a system boots it,
// whatever its firmware asks. A failed node may have one as well: it failed
// after the install, and what it runs is worth more than our agent.
func keepsSystem(n *fleet.Node) bool {
	return n.State.HasSystem() || (n.State == fleet.Failed && !n.System.InstalledAt.IsZero())
}

// start boots a ramdisk of ours: by a script, once a loader can read one.
func start(req *Request, n *fleet.Node, script, why string) Plan {
	if req.Firmware.runsScripts() {
		return Plan{Action: Script, File: script, ByHTTP: true, Reason: why}
	}
	l, fault := req.loader(*n)
	if fault.Reason != "" {
		return fault
	}
	return Plan{Action: Load, File: l.File, ByHTTP: req.Firmware == HTTP, Reason: why + l.why}
}

// localDisk names a script for iPXE and GRUB, which know better than firmware
// how to start the disk. A BIOS ROM and a Raspberry Pi are given no file: they
// give up at once, and go on to the next device. A UEFI that is offered no
// file asks for a minute more; it is sooner at its disk through a loader,
// which will be told so.
func localDisk(req *Request, n *fleet.Node, why string) Plan {
	if req.Firmware.runsScripts() {
		return Plan{Action: LocalDisk, File: ScriptLocal, ByHTTP: true, Reason: why}
	}
	if req.Platform().uefi() {
		switch l, fault := req.loader(*n); {
		case fault.Reason == "":
			return Plan{Action: LocalDisk, File: l.File, ByHTTP: req.Firmware == HTTP, Reason: why + l.why}
		case fault.PassOn:
			return Plan{Action: LocalDisk, PassOn: true, Reason: why}
		}
	}
	return Plan{Action: LocalDisk, Reason: why}
}

func nothing(req *Request, why string) Plan {
	if req.Firmware.runsScripts() {
		return Plan{Action: Ignore, File: ScriptWait, ByHTTP: true, Reason: why}
	}
	return Plan{Action: Ignore, Reason: why}
}
