package fleet

// A PowerOp is something to do with a node's power or next boot.
type PowerOp string

// The power operations.
const (
	PowerOn     PowerOp = "on"
	PowerOff    PowerOp = "off"
	PowerCycle  PowerOp = "cycle"
	PowerStatus PowerOp = "status"
	PXENext     PowerOp = "pxe-next"  // boot from the network, once
	DiskNext    PowerOp = "disk-next" // boot from the disk, once
)

// A PowerState is what a BMC says about a machine's power.
type PowerState string

// The power states.
const (
	PowerIsOn      PowerState = "on"
	PowerIsOff     PowerState = "off"
	PowerIsUnknown PowerState = "unknown"
)
