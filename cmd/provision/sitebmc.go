package main

import "github.com/rackstage/provision/fleet"

// bmcFile is how the machines of a rule are switched.
type bmcFile struct {
	Driver       string  `yaml:"driver"` // "" lets a probe choose redfish or ipmi
	Username     string  `yaml:"username"`
	PasswordFile string  `yaml:"password_file"`
	Address      string  `yaml:"address"` // "" is what the machine says
	IPMIPort     int     `yaml:"ipmi_port"`
	HTTPSPort    int     `yaml:"https_port"`
	CipherSuite  *int    `yaml:"cipher_suite"`
	System       string  `yaml:"system"` // Redfish: path of the machine's system
	CA           string  `yaml:"ca"`     // file with who has signed the certificates of its BMCs
	PDU          pduFile `yaml:"pdu"`
	Boot         string  `yaml:"boot"`  // pxe; http: from a URL that the BMC is given
	Enrol        *bool   `yaml:"enrol"` // false: no account of ours is made or changed there
}

// factoryFile is an account that BMCs come with.
type factoryFile struct {
	Vendor       string `yaml:"vendor"`
	MAC          string `yaml:"mac"` // first bytes, or all
	Serial       string `yaml:"serial"`
	Username     string `yaml:"username"`
	PasswordFile string `yaml:"password_file"`
}

func (f factoryFile) account() fleet.FactoryAccount {
	return fleet.FactoryAccount{Vendor: f.Vendor, MACPrefix: f.MAC, Serial: f.Serial, Username: f.Username, PasswordFile: f.PasswordFile}
}

type pduFile struct {
	Model   string `yaml:"model"`
	Outlets []int  `yaml:"outlets"`
}

func (r *reader) bmc(on string, f bmcFile) fleet.BMCAccess {
	keep := f.Enrol != nil && !*f.Enrol
	switch {
	case f.Username != "" && f.PasswordFile == "" && keep:
		r.bad(on+".username", "add password_file: with the path of a file on the server", "a BMC user without a password file")
	case f.Enrol != nil && *f.Enrol && f.PasswordFile != "":
		r.bad(on+".enrol", "leave password_file out: the password is made for each BMC", "enrol: true beside a password that is given")
	}
	suite := 0
	if f.CipherSuite != nil {
		suite = *f.CipherSuite
		if suite < 1 || suite > 17 {
			r.bad(on+".cipher_suite", "use 17 or 3, or leave it out", "cipher suite %d is not used", suite)
		}
	}
	boot := fleet.BootMethod(f.Boot)
	if f.Boot == "pxe" {
		boot = fleet.BootPXE
	}
	return fleet.BMCAccess{
		Keep: keep, Boot: boot, Driver: fleet.BMCDriver(f.Driver), Username: f.Username, PasswordFile: f.PasswordFile, Address: f.Address,
		Ports: fleet.BMCPorts{IPMI: f.IPMIPort, HTTPS: f.HTTPSPort}, CipherSuite: suite, System: f.System,
		CA:      fleet.Authority{File: f.CA},
		Outlets: fleet.PDUOutlets{Model: f.PDU.Model, Outlets: f.PDU.Outlets},
	}
}
