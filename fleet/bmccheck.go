package fleet

import "time"

// A BMCCheck is what a conformance test of a BMC has found.
type BMCCheck struct {
	Node    NodeID
	Began   time.Time
	Running bool // it is not over
	Power   bool // the power was switched too
	Driver  BMCDriver
	Model   BMCModel
	Results []BMCResult
	Quirks  BMCQuirks // that the drivers have to know
}

// A BMCResult is what one of the checks has found.
type BMCResult struct {
	Check  string
	Grade  BMCGrade
	Detail string // of the BMC's words too, cleaned
	Fix    string // one sentence; "" when there is nothing to do
	Took   time.Duration
}

// A BMCGrade says how good a BMC is at something.
type BMCGrade string

// The grades.
const (
	BMCOK      BMCGrade = "ok"
	BMCWarning BMCGrade = "warning" // we get along with it
	BMCFailed  BMCGrade = "failed"
)

// Failed reports whether something does not work at all.
func (r BMCCheck) Failed() bool {
	for _, it := range r.Results {
		if it.Grade == BMCFailed {
			return true
		}
	}
	return false
}
