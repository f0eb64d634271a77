package api

import "time"

// CheckBMCRequest has a node's BMC tested.
type CheckBMCRequest struct {
	Power bool `json:"power,omitempty"` // the node may be switched off and on
}

// BMCCheck is what a conformance test of a node's BMC has found.
type BMCCheck struct {
	Node     string      `json:"node"`
	Began    time.Time   `json:"began"`
	Running  bool        `json:"running,omitempty"` // it is not over
	Power    bool        `json:"power,omitempty"`   // the power was switched too
	Driver   string      `json:"driver,omitempty"`
	Vendor   string      `json:"vendor,omitempty"`
	Product  string      `json:"product,omitempty"`
	Firmware string      `json:"firmware,omitempty"`
	Results  []BMCResult `json:"results,omitempty"`
	Profile  string      `json:"profile,omitempty"` // YAML for bmc_quirks in site.yaml; nothing when the drivers need to know nothing
}

// BMCResult is what one of the checks has found.
type BMCResult struct {
	Check  string  `json:"check"`
	Grade  string  `json:"grade"` // ok warning failed
	Detail string  `json:"detail,omitempty"`
	Fix    string  `json:"fix,omitempty"`
	Took   float64 `json:"took"` // seconds
}
