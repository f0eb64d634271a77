package fleet

// A PowerOp is something to do with a node's power or next boot.
type PowerOp string

// The power operations.
const (
	PowerOn     PowerOp = "on"
	PowerOff    PowerOp = "off"
	PowerSoft   PowerOp = "soft" // ask the system to shut down
	PowerCycle  PowerOp = "cycle"
	PowerReset  PowerOp = "reset" // restart without switching off
	PowerNMI    PowerOp = "nmi"   // have the system write a crash dump
	PowerStatus PowerOp = "status"

	PXENext   PowerOp = "pxe-next"   // boot from the network
	DiskNext  PowerOp = "disk-next"  // boot from the disk
	CDROMNext PowerOp = "cdrom-next" // boot from the (virtual) CD
	SetupNext PowerOp = "setup-next" // enter the firmware's setup
	HTTPNext  PowerOp = "http-next"  // boot from a URL, by UEFI HTTP

	MediaNext  PowerOp = "media-next"  // put an image into the virtual CD drive, and boot from it
	MediaEject PowerOp = "media-eject" // take it out
)

// PowerOps returns all operations.
func PowerOps() []PowerOp {
	return []PowerOp{
		PowerOn, PowerOff, PowerSoft, PowerCycle, PowerReset, PowerNMI, PowerStatus,
		PXENext, DiskNext, CDROMNext, SetupNext, HTTPNext, MediaNext, MediaEject,
	}
}

// SetsBoot reports whether the operation is about what boots next.
func (o PowerOp) SetsBoot() bool {
	switch o {
	case PXENext, DiskNext, CDROMNext, SetupNext, HTTPNext, MediaNext:
		return true
	default:
		return false
	}
}

// A PowerOrder is an operation with all that belongs to it.
type PowerOrder struct {
	Op       PowerOp
	Firmware string // "bios" or "uefi" shall boot; "" is what the node has
	URL      string // for HTTPNext and MediaNext; "": what DHCP says, or an image of ours for this node
	Persist  bool   // for each boot from now on, and not for the next one only
	Reason   string // why, for the record
}

// Switched is what an operation did, as the BMC shows it.
type Switched struct {
	Before, After PowerState
}

// A PowerState is what a BMC says about a machine's power.
type PowerState string

// The power states.
const (
	PowerIsOn      PowerState = "on"
	PowerIsOff     PowerState = "off"
	PowerIsUnknown PowerState = "unknown"
)
