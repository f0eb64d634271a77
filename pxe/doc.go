// Package pxe decides what a machine that asks to boot shall be given.
//
// [Decide] is the whole of it: a pure function from what the machine said
// about itself ([Request]) and what we know of it ([fleet.Node]) to what it
// gets ([Plan]). Packages dhcp, tftp and http speak the protocols and leave
// every choice to it, so the three boot models (PXE with TFTP, UEFI HTTP boot,
// iPXE) cannot drift apart.
package pxe
