// Package agent is what runs on a node: in the ramdisk while it is installed
// ([Ramdisk]), and as a service afterwards ([Service]).
//
// It dials out only. In the ramdisk it says hello with the one-use ticket of
// its boot, and gets a certificate; from then on it asks the server for its
// next step, does it, and reports. It decides nothing: which disk, which
// image, which cluster is in the step. It refuses, though: a disk that is not
// the planned one, a chunk that is not what its name says, a server that is
// not the one whose certificate it was told, a Docker request that is not on
// its short list.
//
// In the rescue system it does none of this: it gives the machine to a person,
// and says nothing to the server.
package agent
