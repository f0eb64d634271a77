package api

// BIOS is what a machine has in its firmware's setup.
type BIOS struct {
	Node       string            `json:"node"`
	Name       string            `json:"name"`
	Attributes map[string]string `json:"attributes,omitempty"`
	Changes    []BIOSChange      `json:"changes"` // what is not as its profile has it
}

// ApplyBIOSRequest has a machine's settings made those of its profile.
type ApplyBIOSRequest struct {
	Force bool `json:"force,omitempty"` // restart it although it serves its cluster
}

// BIOSChange is a setting that is not as it shall be.
type BIOSChange struct {
	Name    string `json:"name"`
	Is      string `json:"is"`
	Want    string `json:"want"`
	Pending bool   `json:"pending,omitempty"` // it will be so after the next start
	Unknown bool   `json:"unknown,omitempty"` // the machine has no such setting
}
