package fleet

import "strings"

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
	NoAutoexec bool    // it does not get on with autoexec.ipxe
	Reason     string  // one clause for people: "learned: snponly.efi did not start on two of them"
}

// HTTPUse says what UEFI HTTP boot is to a model.
type HTTPUse string

// The uses of HTTP boot.
const (
	HTTPAsAsked HTTPUse = ""       // answer whatever it asks
	HTTPAlways  HTTPUse = "always" // leave PXE unanswered, so that the firmware goes on to HTTP
	HTTPNever   HTTPUse = "never"  // leave HTTP boot unanswered
)

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
