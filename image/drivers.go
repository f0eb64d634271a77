package image

import _ "embed"

// The drivers that we ship, as lists that can be read and changed without
// reading Go.
var (
	//go:embed drivers/network.txt
	networkDrivers string
	//go:embed drivers/disk.txt
	diskDrivers string
	//go:embed drivers/machine.txt
	machineDrivers string
)

// ramdiskDrivers is what the installing agent finds in its ramdisk.
func ramdiskDrivers() string { return networkDrivers + diskDrivers + machineDrivers }

// rootDriversFile is where the hook of initramfs-tools looks for diskDrivers.
const rootDriversFile = "usr/share/provision/root-drivers.txt"
