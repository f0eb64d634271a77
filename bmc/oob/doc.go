// Package oob finds BMCs by the addresses that they ask for.
//
// A new BMC asks for an address by DHCP. [Watcher] looks at the leases of the
// subnets that the site marks oob, greets who has one, and signs in with what
// such BMCs come with: the accounts of the site that fit, each once, few in
// all. What lets us in says which machine it is in, and is handed to the engine,
// which gives it an account of ours. Who does nothing before that password is
// another gets one first. Everybody else is an alarm.
package oob
