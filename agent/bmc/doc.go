// Package bmc makes an account on the machine's own BMC, through the interface
// that the machine has to it.
//
// [Enrol] needs no password: whoever is root on a machine may tell its BMC who
// signs in. It changes nothing but the one account that it was told to make,
// leaves the addresses of the BMC as they are, and may be repeated.
package bmc
