package api

import "time"

// Checkup is what a node's BMC has said about its machine.
type Checkup struct {
	Node   string     `json:"node"`
	Name   string     `json:"name"`            // of the node, or its MAC
	At     *time.Time `json:"at,omitempty"`    // when it was read; nothing: never
	Tried  *time.Time `json:"tried,omitempty"` // when it was asked last
	Failed int        `json:"failed,omitempty"`
	Error  string     `json:"error,omitempty"` // why it did not answer then
	Via    string     `json:"via,omitempty"`
	Power  string     `json:"power,omitempty"`
	Health string     `json:"health"` // ok, warning, critical; "" when the BMC does not say
	Watts  float64    `json:"watts,omitempty"`

	Vendor     string     `json:"vendor,omitempty"`
	Model      string     `json:"model,omitempty"`
	Serial     string     `json:"serial,omitempty"`
	Part       string     `json:"part,omitempty"`
	UUID       string     `json:"uuid,omitempty"`
	AssetTag   string     `json:"asset_tag,omitempty"`
	Processors []string   `json:"processors,omitempty"`
	Cores      int        `json:"cores,omitempty"`
	MemoryMiB  int        `json:"memory_mib,omitempty"`
	MACs       []string   `json:"macs,omitempty"`
	Firmware   []Firmware `json:"firmware,omitempty"`

	Hottest *Sensor  `json:"hottest,omitempty"` // temperature
	Sensors []Sensor `json:"sensors,omitempty"`
	Faults  []Fault  `json:"faults,omitempty"`

	LogName  string     `json:"log_name,omitempty"`
	LogTotal int        `json:"log_total,omitempty"`
	Log      []LogEntry `json:"log,omitempty"`   // newest first
	Lacks    []string   `json:"lacks,omitempty"` // what the BMC does not offer
}

// Firmware is one component with firmware.
type Firmware struct {
	ID         string `json:"id"`
	Name       string `json:"name,omitempty"`
	Version    string `json:"version,omitempty"`
	Updateable bool   `json:"updateable,omitempty"`
}

// Sensor is one reading.
type Sensor struct {
	Name   string  `json:"name"`
	Kind   string  `json:"kind"` // temperature, fan, power, voltage, current
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
	Upper  float64 `json:"upper,omitempty"` // critical above that
	Health string  `json:"health"`
}

// Fault is a part that is not well.
type Fault struct {
	Part   string `json:"part"`
	Health string `json:"health"`
	Detail string `json:"detail,omitempty"`
}

// LogEntry is one line of a BMC's event log.
type LogEntry struct {
	ID     string     `json:"id"`
	At     *time.Time `json:"at,omitempty"`
	Health string     `json:"health"`
	Text   string     `json:"text"`
	New    bool       `json:"new,omitempty"` // it came while the server watched
}
