// Package fault names what can go wrong on a node, with the stable codes that
// the server, the console and the documentation know.
package fault

import (
	"errors"
	"fmt"
)

// A Code is the stable name of a failure, such as "E-DISK-SMALL".
type Code string

// The codes that an agent reports.
const (
	DiskNone     Code = "E-DISK-NONE"     // the machine shows no disk
	DiskOther    Code = "E-DISK-OTHER"    // what is there is not the planned disk
	DiskSmall    Code = "E-DISK-SMALL"    // the image does not fit
	DiskReadOnly Code = "E-DISK-READONLY" // the disk takes no writes
	DiskBusy     Code = "E-DISK-BUSY"     // something on the machine uses the disk
	DiskIO       Code = "E-DISK-IO"       // the disk failed to read or write
	DiskLayout   Code = "E-DISK-LAYOUT"   // the written image has no root partition

	ChunkCorrupt Code = "E-CHUNK-CORRUPT" // a chunk is not what its name says, from every source
	ChunkMissing Code = "E-CHUNK-MISSING" // no source has the chunk
	ImageIndex   Code = "E-IMAGE-INDEX"   // the list of chunks is not to be had, or makes no sense
	ImageSource  Code = "E-IMAGE-SOURCE"  // every source of chunks is out of reach for long

	Seed      Code = "E-SEED"       // identity or first-boot data could not be written
	BootEntry Code = "E-BOOT-ENTRY" // the firmware did not take the boot entry

	BMCAway    Code = "E-BMC-AWAY"    // the machine's own BMC does not answer
	BMCRefused Code = "E-BMC-REFUSED" // it does not do what an account needs
	BMCShape   Code = "E-BMC-SHAPE"   // it does not take such a password
	BMCFull    Code = "E-BMC-FULL"    // it has no room for another user
	BMCNoLAN   Code = "E-BMC-NO-LAN"  // it has no network port

	DockerAway    Code = "E-DOCKER-AWAY"    // the Docker engine does not answer
	DockerRefused Code = "E-DOCKER-REFUSED" // the request is not on the short list
	Join          Code = "E-JOIN"           // the engine did not get into the cluster
	JoinTimeout   Code = "E-JOIN-TIMEOUT"   // no manager answered in time
	JoinTicket    Code = "E-JOIN-TICKET"    // the join ticket was refused

	StepUnknown Code = "E-STEP-UNKNOWN" // this agent does not know such a step
	StepCrashed Code = "E-STEP-CRASHED" // our own fault
)

// An Error is a failure with its code.
type Error struct {
	Code Code
	Err  error
}

// Error returns the cause; the code travels beside it.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf returns a failure with the code; format is that of [fmt.Errorf].
func Errorf(code Code, format string, args ...any) error {
	return &Error{Code: code, Err: fmt.Errorf(format, args...)}
}

// CodeOf returns the first code in err's chain, or "".
func CodeOf(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return ""
}
