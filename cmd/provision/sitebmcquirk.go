package main

import (
	"time"

	"github.com/rackstage/provision/fleet"
)

// A bmcQuirkFile is a profile of the BMCs of a model: what `provision bmc check
// --profile` writes, and site.yaml has under bmc_quirks.
type bmcQuirkFile struct {
	Name     string `yaml:"name"`
	Vendor   string `yaml:"vendor,omitempty"`   // contained in that of machine or BMC
	Product  string `yaml:"product,omitempty"`  // likewise
	Firmware string `yaml:"firmware,omitempty"` // start of the BMC's version

	Interval string `yaml:"interval,omitempty"` // pause between two conversations: 2s
	Settle   string `yaml:"settle,omitempty"`   // how long a change may take: 2m

	CipherSuite int  `yaml:"cipher_suite,omitempty"`
	NoSessions  bool `yaml:"no_sessions,omitempty"`
	BitRate     int  `yaml:"bit_rate,omitempty"`

	Console string `yaml:"console,omitempty"` // ipmi, ssh

	BootByIPMI     bool `yaml:"boot_by_ipmi,omitempty"`
	BootUnreadable bool `yaml:"boot_unreadable,omitempty"`
	BootNoMode     bool `yaml:"boot_no_mode,omitempty"`
	BootNoValid    bool `yaml:"boot_no_valid,omitempty"`
	BootNeedsOff   bool `yaml:"boot_needs_off,omitempty"`
	OnceIsForEver  bool `yaml:"once_is_for_ever,omitempty"`

	NoSoft  bool `yaml:"no_soft,omitempty"`
	NoReset bool `yaml:"no_reset,omitempty"`
}

func (r *reader) bmcProfile(on string, f bmcQuirkFile) fleet.BMCProfile {
	return fleet.BMCProfile{
		Vendor: f.Vendor, Product: f.Product, Firmware: f.Firmware,
		Quirks: fleet.BMCQuirks{
			Profile: f.Name, Interval: r.pause(on+".interval", f.Interval), Settle: r.pause(on+".settle", f.Settle),
			CipherSuite: f.CipherSuite, NoSessions: f.NoSessions, BitRate: f.BitRate, Console: fleet.ConsoleVia(f.Console),
			BootByIPMI: f.BootByIPMI, BootUnreadable: f.BootUnreadable, BootNoMode: f.BootNoMode, BootNoValid: f.BootNoValid, BootNeedsOff: f.BootNeedsOff,
			OnceIsForEver: f.OnceIsForEver, NoSoft: f.NoSoft, NoReset: f.NoReset,
		},
	}
}

// profileFileOf is a profile as it is written.
func profileFileOf(p fleet.BMCProfile) bmcQuirkFile {
	q := p.Quirks
	short := func(d time.Duration) string {
		if d == 0 {
			return ""
		}
		return d.String()
	}
	return bmcQuirkFile{
		Name: q.Profile, Vendor: p.Vendor, Product: p.Product, Firmware: p.Firmware,
		Interval: short(q.Interval), Settle: short(q.Settle), CipherSuite: q.CipherSuite, NoSessions: q.NoSessions, BitRate: q.BitRate, Console: string(q.Console),
		BootByIPMI: q.BootByIPMI, BootUnreadable: q.BootUnreadable, BootNoMode: q.BootNoMode, BootNoValid: q.BootNoValid, BootNeedsOff: q.BootNeedsOff,
		OnceIsForEver: q.OnceIsForEver, NoSoft: q.NoSoft, NoReset: q.NoReset,
	}
}

func (r *reader) pause(on, text string) time.Duration {
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		r.bad(on, "write it like 2s or 1m30s", "%q is not a time", text)
	}
	return d
}
