package fleet

import "errors"

// A SetupPolicy says what a run does to a machine's firmware, or to its BIOS
// settings, before it writes the machine's disk.
type SetupPolicy string

// The policies. A machine that cannot do it, because its BMC does not offer it,
// fails or is installed as it is; the run says so either way.
const (
	SetupLeave    SetupPolicy = ""         // nothing
	SetupDemand   SetupPolicy = "demand"   // it becomes as declared, or is not installed
	SetupPossible SetupPolicy = "possible" // likewise, where the BMC can do it
)

// SetupCode reports whether a code says that a machine cannot have its firmware
// or its BIOS settings changed from here, whatever is tried.
func SetupCode(c Code) bool { return c == CodeBMCUnsupported || c == "E-BMC-NONE" }

// Serves reports whether work of its cluster may run on a node, so that nobody
// restarts it by the way.
func (n Node) Serves() bool {
	switch n.State {
	case Active, Joining, Draining:
		return true
	case Failed: // its membership did not end with that
		return n.Member.NodeID != ""
	default:
		return false
	}
}

// CheckIdle returns an error when a node serves its cluster and shall be
// restarted all the same; how says by which option somebody takes that on
// himself.
func (n Node) CheckIdle(op, how string) error {
	if !n.Serves() {
		return nil
	}
	return &Error{
		Kind: Conflict, Code: CodeNodeServes, Op: op, On: "node " + n.Title(), Err: errors.New("it is " + string(n.State) + ", work of its cluster runs on it, and a restart would end that"),
		Hint: "move its work away first (docker node update --availability drain, on a manager), then repeat it with " + how,
	}
}
