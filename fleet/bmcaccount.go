package fleet

import (
	"slices"
	"strings"
)

// OwnUser is the name of the accounts that we make on BMCs, unless a rule
// says another.
const OwnUser = "provision"

// A BMCAccount is a user of a BMC at an address.
type BMCAccount struct {
	Address        string // host or host:port
	Username       string
	SealedPassword string // sealed by access; never in clear in here
}

// Open reports whether it is an account that a BMC may have or not: an order to
// make it was given, and how it ended is not known.
func (a BMCAccount) Open() bool { return a.Address != "" && a.SealedPassword != "" }

// A Finding is something about a BMC that somebody should see to. It stands
// until a later look does not find it any more.
type Finding struct {
	Code   string // of a [Diagnosis]
	Detail string // what was seen, one line; hostile text
}

// Findings of BMCs: those that a look over the network finds, and those that
// come of making and changing accounts.
var lookedFor = []string{CodeBMCCipherZero, CodeBMCAnonymous, CodeBMCFactory}

// WithFinding returns the BMC with one finding of this code.
func (b BMC) WithFinding(code, detail string) BMC {
	b = b.WithoutFindings(code)
	b.Findings = append(b.Findings, Finding{code, CleanText(detail)})
	return b
}

// WithoutFindings returns the BMC without findings of these codes.
func (b BMC) WithoutFindings(codes ...string) BMC {
	b.Findings = slices.DeleteFunc(slices.Clone(b.Findings), func(f Finding) bool { return slices.Contains(codes, f.Code) })
	return b
}

// Looked returns the BMC with what a look over the network has found, in the
// place of what an earlier one did.
func (b BMC) Looked(found []Finding) BMC {
	b = b.WithoutFindings(lookedFor...)
	for _, f := range found {
		b = b.WithFinding(f.Code, f.Detail)
	}
	return b
}

// Candidate returns the BMC as it would be with an account that we made in the
// place of its own: to be tried, never to be stored before.
func (b BMC) Candidate(a BMCAccount) BMC {
	b.Username, b.SealedPassword, b.Own = a.Username, a.SealedPassword, true
	if a.Address != "" && a.Address != b.Address {
		b.Address, b.CipherSuite = a.Address, -1
	}
	return b
}

// Taken returns the BMC as one whose account, one of ours, has signed in: what
// was open about accounts is over, but for the one that it came with, when that
// is another.
func (b BMC) Taken(settled ...string) BMC {
	b.Own, b.Next = true, BMCAccount{}
	if b.Factory == b.Username {
		b.Factory = ""
	}
	b = b.WithoutFindings(settled...)
	if b.Factory == "" {
		b = b.WithoutFindings(CodeBMCFactory)
	}
	return b
}

// MakesAccount reports whether accounts with passwords of ours are made on the
// BMCs of the rule's machines.
func (a BMCAccess) MakesAccount() bool {
	noBMC := a.Driver != "" && !a.Driver.SignsIn() || a.Driver == DriverPDU || a.Driver == DriverAMT
	return !a.Keep && a.PasswordFile == "" && a.SealedPassword == "" && !noBMC
}

// Withholds reports whether the password that a rule gives is not for a BMC: one
// that was found by the account that it came with, and is not ours yet. All that
// speaks for it is what it says itself; where a rule has its address, somebody
// has vouched for that. A machine that says that its BMC is elsewhere has another.
func (a BMCAccess) Withholds(b BMC, said string) bool {
	gives := a.SealedPassword != "" && a.Address == "" && a.Driver.HasAccounts()
	found := !b.Own && b.Factory != "" && b.Factory == b.Username && b.SealedPassword != a.SealedPassword
	return gives && found && (said == "" || said == b.Address)
}

// A FactoryAccount is what BMCs of a kind come with. It is tried on BMCs that
// get an address of a subnet with oob: true, once, and replaced where it works.
type FactoryAccount struct {
	Vendor         string // contained in what its Redfish service calls its vendor, ignoring case
	MACPrefix      string // start of the MAC address of the BMC's LAN port, or all of it
	Serial         string // contained in the host name that it asks for an address with, ignoring case
	Username       string
	PasswordFile   string
	SealedPassword string // filled in by whoever read the file
}

// Fits reports whether an account may be tried on a BMC.
func (a FactoryAccount) Fits(vendor string, mac MAC, hostname string) bool {
	return containsFold(vendor, a.Vendor) &&
		strings.HasPrefix(string(mac), strings.ToLower(a.MACPrefix)) &&
		containsFold(hostname, a.Serial)
}

// A BMCOrder says which account an agent shall make on its machine's BMC.
type BMCOrder struct {
	Username string
	Password Secret
}

// A BMCReport is what an agent found of its machine's BMC, and made there.
type BMCReport struct {
	Slot         int    // of the account
	Channel      int    // of the LAN port
	Address      string // of the LAN port; "" when it has none
	Source       string // of the address: "static", "dhcp", "bios", "other"
	MAC          MAC
	Manufacturer int // IANA enterprise number
	Product      int
	Firmware     string
	Users        int // accounts that are enabled
}

// A FoundBMC is a BMC that got an address of ours and let us in with an account
// that it came with. What it says of its machine is hostile text, cleaned.
type FoundBMC struct {
	BMC     BMC // how to sign in to it
	MAC     MAC // of its LAN port
	UUID    string
	Swapped string // the same in another order of bytes; "" when there is no doubt
	Serial  string
	Vendor  string
	Product string
	Arch    string // as in [Inventory]; "" when it does not say
	MACs    []MAC  // of the machine's network cards
}
