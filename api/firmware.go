package api

// FirmwareUpdate is a component that has not the version that the site
// declares, and how far its update is.
type FirmwareUpdate struct {
	Component string `json:"component"`
	Is        string `json:"is"`
	Want      string `json:"want"`
	URL       string `json:"url"`
	Missing   bool   `json:"missing,omitempty"` // the machine has no such component
	State     string `json:"state"`             // differs, waiting, running, restart needed, done, failed
	Percent   int    `json:"percent,omitempty"`
	Error     string `json:"error,omitempty"`
}

// UpdateFirmwareRequest has components updated.
type UpdateFirmwareRequest struct {
	Component string `json:"component,omitempty" maxLength:"256"` // "": all
	Restart   bool   `json:"restart,omitempty"`                   // the machine, where a version counts from its next start on
	Force     bool   `json:"force,omitempty"`                     // restart it although it serves its cluster
}
