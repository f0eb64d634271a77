package fleet

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A BMCModel is what a BMC says that it is.
type BMCModel struct {
	Vendor   string
	Product  string
	Firmware string // version
}

// A BMCProfile is what is known of the BMCs of a model. Of the fields that say
// which those are, all that are set must hold.
type BMCProfile struct {
	Vendor   string // contained in the vendor of the machine or of its BMC, ignoring case
	Product  string // likewise
	Firmware string // start of the version of the BMC's firmware; "" for all
	Quirks   BMCQuirks
}

// BMCQuirks are how a BMC differs from what its standard says. The drivers obey
// them. The zero value is a BMC without any.
type BMCQuirks struct {
	Profile string // that they come from, for people

	Interval time.Duration // pause between two conversations; the controller's when zero
	Settle   time.Duration // how long a change may take; the controller's when zero

	CipherSuite int  // IPMI: the only one that is tried; 0: 17, then 3
	NoSessions  bool // Redfish: sign in with each request
	BitRate     int  // of the serial console by IPMI, set when it is opened; 0: as it is

	Console ConsoleVia // how the serial console is reached; "" lets us find out

	BootByIPMI     bool // Redfish: the boot device is set by IPMI
	BootUnreadable bool // the boot device cannot be read back
	BootNoMode     bool // the boot device is read back without UEFI or BIOS
	BootNoValid    bool // IPMI: the boot device is read back without the flag that it counts
	BootNeedsOff   bool // the boot device is only taken while the machine is off
	OnceIsForEver  bool // "once" is read back as "always"

	NoSoft  bool // does not ask the system to shut down
	NoReset bool // cannot reset: off and on instead
}

// SOLBitRates are the speeds that a serial console can have.
func SOLBitRates() []int { return []int{9600, 19200, 38400, 57600, 115200} }

// Fits reports whether a profile is for the BMC of this machine.
func (p BMCProfile) Fits(n Node) bool {
	either := func(of string, said ...string) bool {
		return slices.ContainsFunc(said, func(s string) bool { return containsFold(s, of) })
	}
	m := n.BMC.Model
	return either(p.Vendor, n.Inventory.Vendor, m.Vendor) && either(p.Product, n.Inventory.Product, m.Product) &&
		strings.HasPrefix(m.Firmware, p.Firmware)
}

// BMCQuirksOf returns the quirks of the first profile that is for the BMC of a
// machine.
func (s Site) BMCQuirksOf(n Node) BMCQuirks {
	for _, p := range s.BMCProfiles {
		if p.Fits(n) {
			return p.Quirks
		}
	}
	return BMCQuirks{}
}

// The longest that a BMC is waited for.
const (
	mostInterval = time.Minute
	mostSettle   = 15 * time.Minute
)

func (s Site) validateBMCProfiles() error {
	var errs []error
	for i, p := range s.BMCProfiles {
		bad := func(key, hint, format string, args ...any) {
			errs = append(errs, Invalidf(fmt.Sprintf("bmc_quirks[%d].%s", i, key), hint, fmt.Errorf(format, args...)))
		}
		q := p.Quirks
		if p.Vendor == "" && p.Product == "" {
			errs = append(errs, Invalidf(fmt.Sprintf("bmc_quirks[%d]", i), "say which BMCs it is for: vendor or product", errors.New("a profile of no BMC")))
		}
		if !ValidName(q.Profile) {
			errs = append(errs, badName(fmt.Sprintf("bmc_quirks[%d].name", i), q.Profile))
		}
		if q.Interval < 0 || q.Interval > mostInterval {
			bad("interval", "", "a pause of %s; it is at most %s", q.Interval, mostInterval)
		}
		if q.Settle < 0 || q.Settle > mostSettle {
			bad("settle", "", "a change that takes %s; it takes at most %s", q.Settle, mostSettle)
		}
		if q.CipherSuite < 0 || q.CipherSuite > 17 {
			bad("cipher_suite", "use 17 or 3, or leave it out", "cipher suite %d is not used", q.CipherSuite)
		}
		if q.BitRate != 0 && !slices.Contains(SOLBitRates(), q.BitRate) {
			bad("bit_rate", fmt.Sprintf("use one of %v", SOLBitRates()), "a serial console of %d bit/s", q.BitRate)
		}
		if q.Console != "" && q.Console != ConsoleIPMI && q.Console != ConsoleSSH {
			bad("console", "use ipmi or ssh, or leave it out", "a console by %q", clip(string(q.Console), 80))
		}
	}
	return errors.Join(errs...)
}
