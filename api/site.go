package api

// Site is the declared world, as the server holds it. BMC passwords are not
// part of it.
type Site struct {
	Stages   []SiteStage   `json:"stages"`
	Pools    []SitePool    `json:"pools"`
	Profiles []SiteProfile `json:"profiles"`
	Subnets  []SiteSubnet  `json:"subnets"`
	Rules    []SiteRule    `json:"rules"`
}

// SiteStage is an environment.
type SiteStage struct {
	Name     string `json:"name"`
	Registry string `json:"registry,omitempty"`
}

// SitePool is a pool as it was declared.
type SitePool struct {
	Name     string            `json:"name"`
	Stage    string            `json:"stage"`
	Profile  string            `json:"profile"`
	Cluster  string            `json:"cluster"`
	Managers int               `json:"managers"`
	Labels   map[string]string `json:"labels,omitempty"`
	Trust    int               `json:"trust"`
	Firmware string            `json:"firmware"` // before a node is installed: leave, update, where-possible
	BIOS     string            `json:"bios"`     // likewise: leave, apply, where-possible
}

// SiteProfile says what a node of a pool becomes.
type SiteProfile struct {
	Name    string   `json:"name"`
	Image   string   `json:"image"`
	SSHKeys []string `json:"ssh_keys,omitempty"`
	Kernel  []string `json:"kernel,omitempty"`
}

// SiteSubnet is one network that machines boot from.
type SiteSubnet struct {
	Name   string   `json:"name"`
	CIDR   string   `json:"cidr"`
	Mode   string   `json:"mode"` // observe proxy reserved full
	Ranges []string `json:"ranges,omitempty"`
	Router string   `json:"router,omitempty"`
}

// SiteRule turns what was discovered into a pool.
type SiteRule struct {
	Name    string `json:"name"`
	Pool    string `json:"pool"`
	Role    string `json:"role,omitempty"`
	Approve bool   `json:"approve"`
}

// Health says whether the server serves.
type Health struct {
	Status string `json:"status"` // "ok"
}

// RunList is the runs of the server, newest first.
type RunList struct {
	Runs []Run `json:"runs"`
}

// PoolList is the declared pools.
type PoolList struct {
	Pools []Pool `json:"pools"`
}

// ImageList is the images of the store.
type ImageList struct {
	Images []Image `json:"images"`
}
