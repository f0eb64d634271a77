// Package bmc switches machines through their baseboard controllers.
//
// A [Controller] powers machines on and off and says what they shall boot
// next. A BMC's "done" is not believed: every change is read back until it is
// true or a deadline has passed, because BMCs say yes and do nothing, swallow
// orders while they are busy, and freeze when they are asked too much. So a
// BMC gets one change at a time, one conversation at a time, and a pause
// between two.
//
// [Controller.Probe] finds out how a BMC is spoken to: by Redfish or by IPMI,
// with which cipher suite, for which of its systems, and which TLS certificate
// it has. All of it is kept with the node and comes back in [Target]; nothing
// is tried out again.
//
// [Controller.Check] tests how far a BMC does what its standard says. What a
// model does otherwise is kept as [fleet.BMCQuirks], which all of this obeys.
// [Controller.InsertMedia] puts an image into a machine's virtual CD drive.
//
// # For the other files of this package
//
// Whatever speaks to a BMC goes through its gate ([guard]), which keeps the
// pause, the limits and a deadline that no library can miss. There are three
// ways through it, and all of them sign in and sign off:
//
//   - [talk] hands over a [line]: power and boot device, by any driver;
//   - [talkIPMI] hands over go-ipmi's client, signed in as operator or
//     administrator (a console, which stays open, uses signIn);
//   - [talkRedfish] hands over a [redfish] conversation: get, patch (with the
//     ETag of what was read), post, remove and members on one connection with
//     the pinned certificate and one login; systemPath is which system is the
//     machine.
//
// [reason] has named their errors already; [trouble] makes of one what a
// person can act on. Texts that a BMC sends are cleaned with
// [fleet.CleanText] and bounded before they are kept or shown.
package bmc
