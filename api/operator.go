package api

import "time"

// Problem is an error (RFC 9457, application/problem+json).
type Problem struct {
	Type   string `json:"type,omitempty"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	Code   string `json:"code,omitempty"` // stable: "E-POOL-UNKNOWN"
	Hint   string `json:"hint,omitempty"`
}

// Error returns the detail, or the title when there is none.
func (p *Problem) Error() string {
	if p.Detail != "" {
		return p.Detail
	}
	return p.Title
}

// Place is where a machine is plugged in, as its DHCP relay says.
type Place struct {
	Subnet    string `json:"subnet"`
	Relay     string `json:"relay,omitempty"`
	CircuitID string `json:"circuit_id,omitempty"` // port
	RemoteID  string `json:"remote_id,omitempty"`  // switch
}

// Node is one machine.
type Node struct {
	ID        string            `json:"id"`
	Name      string            `json:"name"`
	MAC       string            `json:"mac"`
	UUID      string            `json:"uuid"`
	Addr      string            `json:"addr"`
	Place     *Place            `json:"place,omitempty"`
	Trust     int               `json:"trust"`
	Stage     string            `json:"stage"`
	Pool      string            `json:"pool"`
	Role      string            `json:"role"`
	Labels    map[string]string `json:"labels,omitempty"`
	State     string            `json:"state"`
	Phase     string            `json:"phase"`
	Progress  int               `json:"progress"`
	Failure   *Failure          `json:"failure,omitempty"`
	Run       string            `json:"run,omitempty"`
	BMC       string            `json:"bmc"` // address only
	Power     *PowerPath        `json:"power,omitempty"`
	Findings  []BMCFinding      `json:"bmc_findings,omitempty"`
	Approved  bool              `json:"approved"`
	Inventory Inventory         `json:"inventory"`
	Image     string            `json:"image,omitempty"`
	Digest    string            `json:"digest,omitempty"`
	Cluster   string            `json:"cluster,omitempty"`
	Member    string            `json:"member,omitempty"` // ID in the cluster
	Rescue    *Rescue           `json:"rescue,omitempty"`
	Loader    *Loader           `json:"loader,omitempty"` // nothing: the usual one
	FirstSeen time.Time         `json:"first_seen"`
	LastSeen  time.Time         `json:"last_seen"`
	Revision  int64             `json:"revision"`
}

// Rescue is a node's time in the rescue system.
type Rescue struct {
	From  string    `json:"from"` // what it was, and becomes again
	Since time.Time `json:"since"`
	Once  bool      `json:"once,omitempty"` // chosen in its own menu: over when it starts again
}

// Loader is what a machine is given to load first, when that is not the usual.
type Loader struct {
	File   string `json:"file,omitempty"`
	Reason string `json:"reason"` // "learned: snponly.efi did not start on this model"
}

// Failure says why something stopped.
type Failure struct {
	Code  string `json:"code"`
	Phase string `json:"phase,omitempty"`
	Text  string `json:"text"`
	Hint  string `json:"hint,omitempty"`

	Console string `json:"console,omitempty"` // the last lines on its serial console
}

// NodeList is a page of nodes.
type NodeList struct {
	Nodes []Node `json:"nodes"`
	Total int    `json:"total"`
	Next  string `json:"next,omitempty"` // cursor of the next page
}

// Pool is one pool with its counts.
type Pool struct {
	Name     string         `json:"name"`
	Stage    string         `json:"stage"`
	Profile  string         `json:"profile"`
	Image    string         `json:"image"`
	Cluster  string         `json:"cluster"`
	Managers int            `json:"managers"`
	Nodes    map[string]int `json:"nodes"` // by state
	Run      string         `json:"run,omitempty"`
}

// Plan is what a run would do.
type Plan struct {
	Pool       string     `json:"pool"`
	Hash       string     `json:"hash"`
	AsDeclared bool       `json:"as_declared"`
	Image      string     `json:"image"`
	Digest     string     `json:"digest"`
	Run        string     `json:"run,omitempty"`    // the run that is under way in the pool
	Estimate   int        `json:"estimate_seconds"` // 0: no earlier boots to estimate from
	Items      []PlanItem `json:"items"`
}

// PlanItem is what a plan does with one node.
type PlanItem struct {
	Node   string `json:"node"`
	Title  string `json:"title"`
	Name   string `json:"name"`
	Class  string `json:"class"` // keep add join skip replace! remove!
	Role   string `json:"role"`
	Reason string `json:"reason"`
	Disk   string `json:"disk,omitempty"`

	Before []string `json:"before,omitempty"` // what is done to its firmware and BIOS settings first, and what of it cannot be
}

// StartRun starts the plan with exactly this hash, or attaches to a run of
// the pool that carries it out already.
type StartRun struct {
	Plan        string `json:"plan"`
	Destructive bool   `json:"destructive"` // replace! and remove! are approved too
	Key         string `json:"key,omitempty"`
}

// Run is one convergence of one pool.
type Run struct {
	ID      string    `json:"id"`
	Pool    string    `json:"pool"`
	Plan    string    `json:"plan"`
	State   string    `json:"state"` // pending running done failed canceled
	Actor   string    `json:"actor"`
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended,omitzero"`
	Done    int       `json:"done"`
	Failed  int       `json:"failed"`
	Working int       `json:"working"`
	Held    int       `json:"held"`
	Nodes   []RunNode `json:"nodes"`

	Revision string `json:"revision"` // differs after every change, progress included
}

// RunNode is one node's part of a run.
type RunNode struct {
	Node     string      `json:"node"`
	Name     string      `json:"name"`
	Class    string      `json:"class"`
	Role     string      `json:"role"`
	State    string      `json:"state"` // pending running done failed canceled held
	Phase    string      `json:"phase"`
	Progress int         `json:"progress"`
	Attempt  int         `json:"attempt"`
	Failure  *Failure    `json:"failure,omitempty"`
	Times    []PhaseTime `json:"times,omitempty"`
	Started  time.Time   `json:"started"`
	Ended    time.Time   `json:"ended,omitzero"`
	Notes    []string    `json:"notes,omitempty"` // what was left as it is, or begun again, and why
}

// PhaseTime is when a phase was reached.
type PhaseTime struct {
	Phase string    `json:"phase"`
	At    time.Time `json:"at"`
}

// PowerRequest switches a node.
type PowerRequest struct {
	Op       string `json:"op"`                 // on off soft cycle reset nmi status pxe-next disk-next cdrom-next setup-next http-next media-next media-eject
	Firmware string `json:"firmware,omitempty"` // bios, uefi: what shall boot; nothing: what the node has
	URL      string `json:"url,omitempty"`      // for http-next and media-next; nothing: what DHCP says, or an image of ours
	Persist  bool   `json:"persist,omitempty"`  // from now on, not for the next boot only
	Reason   string `json:"reason,omitempty"`   // for the record
}

// ProbeBMCRequest has a node's BMC looked at anew.
type ProbeBMCRequest struct {
	System string `json:"system,omitempty"` // Redfish: path of the node's system, where there are several
}

// AcceptPinRequest accepts a TLS certificate that a BMC shows.
type AcceptPinRequest struct {
	Pin string `json:"pin"` // hex SHA-256: the new_pin of the node
}

// RescueRequest puts a node into the rescue system, or back into what it was.
type RescueRequest struct {
	End     bool `json:"end,omitempty"`
	Restart bool `json:"restart,omitempty"` // by its BMC, at once
}

// PowerPath is how a node is switched.
type PowerPath struct {
	Driver      string `json:"driver,omitempty"` // nothing: no probe has chosen one yet
	Wanted      string `json:"wanted,omitempty"` // what the site says
	Address     string `json:"address,omitempty"`
	Username    string `json:"username,omitempty"`
	CipherSuite int    `json:"cipher_suite,omitempty"` // IPMI
	System      string `json:"system,omitempty"`       // Redfish
	Login       string `json:"login,omitempty"`        // Redfish: basic, session
	Pin         string `json:"pin,omitempty"`          // hex SHA-256 of the TLS certificate
	NewPin      string `json:"new_pin,omitempty"`      // of another one that it shows, and that waits to be accepted
	PDU         string `json:"pdu,omitempty"`
	Outlets     []int  `json:"outlets,omitempty"`
	Quirks      string `json:"quirks,omitempty"` // profile
}

// PowerReply is the power state after it, read back from the BMC.
type PowerReply struct {
	State string `json:"state"` // on, off, unknown
}

// ApplyRequest is a whole site.yaml.
type ApplyRequest struct {
	YAML   string `json:"yaml"`
	DryRun bool   `json:"dry_run"`

	ForceDHCP bool `json:"force_dhcp,omitempty"` // give out addresses even where another DHCP server does
}

// ApplyReply says what changes, or changed: "+ pool prd", "~ subnet rack".
type ApplyReply struct {
	Changes []string `json:"changes"`
}

// Image is one image of the store.
type Image struct {
	Name    string    `json:"name"`
	Kind    string    `json:"kind"`
	Digest  string    `json:"digest"`
	Size    int64     `json:"size"`
	Stored  int64     `json:"stored"`
	Chunks  int       `json:"chunks"`
	Created time.Time `json:"created"`
}

// Event is a fact about a node, a run or a user's act.
type Event struct {
	Seq   int64     `json:"seq"`
	At    time.Time `json:"at"`
	Type  string    `json:"type"`
	Node  string    `json:"node,omitempty"`
	Pool  string    `json:"pool,omitempty"`
	Run   string    `json:"run,omitempty"`
	Actor string    `json:"actor,omitempty"`
	Text  string    `json:"text"`
}

// Version says what is running.
type Version struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Go      string `json:"go"`
	Server  string `json:"server,omitempty"` // version of the server, if one was asked
}
