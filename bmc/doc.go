// Package bmc switches machines through their baseboard controllers.
//
// A [Controller] powers machines on and off and says what they shall boot
// next. A BMC's "done" is not believed: every change is read back until it is
// true or a deadline has passed, because BMCs say yes and do nothing, swallow
// orders while they are busy, and freeze when they are asked too much. So a
// BMC gets one change at a time, one conversation at a time, and a pause
// between two.
//
// IPMI goes through a driver of our own, registered in bmclib. Each
// conversation has a client of its own and an end that it cannot miss,
// whatever the libraries do with a context.
package bmc
