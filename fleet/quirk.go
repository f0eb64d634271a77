package fleet

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
)

// A Quirk is how machines of one model boot otherwise than their firmware
// would suggest. Of the fields that say which machines it is for, all that are
// set must hold; the others are zero where nothing is special.
type Quirk struct {
	Vendor    string // contained in the SMBIOS vendor, ignoring case
	Product   string // contained in the SMBIOS product, ignoring case
	MACPrefix string // for machines that we know by nothing else yet: "52:54:00"
	Platform  string // as package pxe names it, "uefi-x64"; "" for all

	Loader     string  // file to give first; "" for the usual
	BlockSize  int     // largest TFTP block; 0 for what the machine asks
	HTTP       HTTPUse // whether it boots by UEFI HTTP
	Rechain    bool    // an old iPXE in its ROM gets our loader, which can do more
	NoAutoexec bool    // it does not get on with autoexec.ipxe
	Reason     string  // one clause for people: "learned: snponly.efi did not start on two of them"
}

// HTTPUse says what UEFI HTTP boot is to a model.
type HTTPUse string

// The uses of HTTP boot.
const (
	HTTPAsAsked HTTPUse = ""       // answer whatever it asks
	HTTPAlways  HTTPUse = "always" // have PXE end at once, so that the firmware goes on to HTTP
	HTTPNever   HTTPUse = "never"  // leave HTTP boot unanswered
)

// Or is what a quirk says, and of what it leaves open what another one says. Who
// they are for is that of the first.
func (q Quirk) Or(other Quirk) Quirk {
	both := q
	both.Loader, both.BlockSize, both.HTTP = cmp.Or(q.Loader, other.Loader), cmp.Or(q.BlockSize, other.BlockSize), cmp.Or(q.HTTP, other.HTTP)
	both.Rechain, both.NoAutoexec = q.Rechain || other.Rechain, q.NoAutoexec || other.NoAutoexec
	switch {
	case both == q || other.Reason == "":
	case q.Reason == "":
		both.Reason = other.Reason
	default:
		both.Reason += "; " + other.Reason
	}
	return both
}

// Why is the reason, as far as there is one: of what is only declared there may be
// none.
func (q Quirk) Why() string { return cmp.Or(q.Reason, "site.yaml says so") }

// Fits reports whether a quirk is for this machine. The zero node is one that
// we do not know: only its MAC address counts.
func (q Quirk) Fits(mac MAC, n Node) bool {
	if q.Vendor == "" && q.Product == "" && q.MACPrefix == "" {
		return false
	}
	inv := n.Inventory
	return containsFold(inv.Vendor, q.Vendor) && containsFold(inv.Product, q.Product) &&
		strings.HasPrefix(string(mac), strings.ToLower(q.MACPrefix))
}

func (s Site) validateQuirks() error {
	var errs []error
	for i, q := range s.Quirks {
		on := fmt.Sprintf("quirks[%d]", i)
		if q.Vendor == "" && q.Product == "" && q.MACPrefix == "" {
			errs = append(errs, Invalidf(on, "say which machines it is for: vendor, product or mac", errors.New("a quirk of no machine")))
		}
		if !validMACPrefix(q.MACPrefix) {
			errs = append(errs, Invalidf(on+".mac", "write the first bytes with colons: 52:54:00", fmt.Errorf("MAC prefix %q", q.MACPrefix)))
		}
		if strings.ContainsAny(q.Loader, "/\\ ") || CleanText(q.Loader) != q.Loader || strings.HasPrefix(q.Loader, ".") || len(q.Loader) > 127 {
			errs = append(errs, Invalidf(on+".loader", "name a file in the folder boot of the state folder", fmt.Errorf("%q is not the name of a file", q.Loader)))
		}
		if q.BlockSize != 0 && (q.BlockSize < 512 || q.BlockSize > 1468) {
			errs = append(errs, Invalidf(on+".block_size", "use 512 to 1468", fmt.Errorf("a TFTP block of %d bytes", q.BlockSize)))
		}
		if q.HTTP != HTTPAsAsked && q.HTTP != HTTPAlways && q.HTTP != HTTPNever {
			errs = append(errs, Invalidf(on+".http", "use always or never", fmt.Errorf("unknown use of HTTP boot %q", q.HTTP)))
		}
	}
	return errors.Join(errs...)
}
