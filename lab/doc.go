// Package lab builds virtual racks: bare machines with real firmware, real
// baseboard controllers and a network of their own, on one Linux host.
//
// [Up] makes a network namespace with a bridge, and for every [Machine] a tap,
// an empty disk and a BMC: OpenIPMI's ipmi_sim, or the Redfish service of
// package lab/redfish, or both. Nothing is routed outside, so every rack uses
// the same addresses and several can run side by side. A machine is switched on
// by talking to its BMC, as in a data centre; the BMC then runs [Hook], which
// starts or ends QEMU, or is [Hook] itself. Off means that the process is gone. The server under test is started inside with [Rack.Command] and is
// reached from outside with [Rack.Dial] and [Rack.Forward].
//
// A rack outlives the program that made it. All there is to know about it is
// in its state directory, so that another program, or a later one after a
// crash, can find it with [Open] and end it with [Down].
package lab
