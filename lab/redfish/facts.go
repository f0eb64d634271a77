package redfish

import (
	"cmp"
	"fmt"
)

// Facts are what inventory will find, so that a test can compare it exactly.
// What is not set is made up.
type Facts struct {
	UUID, Serial, AssetTag, SKU, Part string
	Vendor, Model, Host               string
	BIOSVersion                       string
	CPU                               string // model
	ARM                               bool   // its processor is an arm64 one
	CPUs                              int    // cores
	Processors                        []Processor
	MemoryMiB                         int // in one module
	NICs                              []NIC
	Disks                             []Disk
	Sensors                           []Sensor
}

// A Processor is one of a system, or an empty socket. What it does not say is
// left out.
type Processor struct {
	ID, Type, Family, Set string // "CPU", "x86", "x86-64"
	Absent                bool
}

// A NIC is a network card of a system.
type NIC struct {
	ID, MAC string
	Mbit    int
	Link    bool
}

// A Disk is one in a system.
type Disk struct {
	ID, Model, Serial, Revision string
	Protocol, Media             string // "NVMe", "SSD"
	Bytes                       int64
}

// A Sensor is one of the chassis.
type Sensor struct {
	Name    string
	Kind    string // Temperature, Fan, Power, Voltage
	Reading float64
	Upper   float64 // critical above that; 0: no limit
	Absent  bool    // the reading is null
}

func (f Facts) withDefaults(i int) Facts {
	nr := i + 1
	f.UUID = cmp.Or(f.UUID, fmt.Sprintf("7ab00077-0000-4000-9000-%012d", nr))
	f.Serial = cmp.Or(f.Serial, fmt.Sprintf("RF77%05d", nr))
	f.SKU = cmp.Or(f.SKU, f.Serial)
	f.Part = cmp.Or(f.Part, "0X77A0")
	f.Vendor = cmp.Or(f.Vendor, "Contoso")
	f.Model = cmp.Or(f.Model, "Rack 1U")
	f.BIOSVersion = cmp.Or(f.BIOSVersion, "1.0")
	f.CPU = cmp.Or(f.CPU, "Contoso CPU 7")
	f.CPUs = cmp.Or(f.CPUs, 8)
	f.MemoryMiB = cmp.Or(f.MemoryMiB, 16384)
	if f.Processors == nil {
		family, set := "x86", "x86-64"
		if f.ARM {
			family, set = "ARM", "ARM-A64"
		}
		f.Processors = []Processor{{ID: "CPU.1", Type: "CPU", Family: family, Set: set}}
	}
	if f.NICs == nil {
		f.NICs = []NIC{{ID: "NIC.1", MAC: fmt.Sprintf("02:00:00:77:00:%02x", nr&255), Mbit: 10000, Link: true}}
	}
	if f.Disks == nil {
		f.Disks = []Disk{{ID: "Disk.0", Model: "Contoso NVMe", Serial: fmt.Sprintf("D77%05d", nr), Revision: "1.0", Protocol: "NVMe", Media: "SSD", Bytes: 480 << 30}}
	}
	if f.Sensors == nil {
		f.Sensors = []Sensor{
			{Name: "Inlet Temp", Kind: "Temperature", Reading: 23, Upper: 42},
			{Name: "CPU1 Temp", Kind: "Temperature", Reading: 51, Upper: 95},
			{Name: "Fan1", Kind: "Fan", Reading: 5400},
			{Name: "System Power", Kind: "Power", Reading: 187},
		}
	}
	return f
}

// health says what a reading means.
func (n Sensor) health() string {
	if n.Upper != 0 && n.Reading > n.Upper {
		return "Critical"
	}
	return "OK"
}

func (n Sensor) status() object {
	if n.Absent {
		return object{"State": "Absent"}
	}
	return object{"State": "Enabled", "Health": n.health()}
}

// value is the reading, or null.
func (n Sensor) value() any {
	if n.Absent {
		return nil
	}
	return n.Reading
}

func (n Sensor) limit() any {
	if n.Upper == 0 {
		return nil
	}
	return n.Upper
}
