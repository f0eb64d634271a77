package templates

import (
	"errors"

	"github.com/rackstage/provision/fleet"
)

// Data is what the templates may ask for.
type Data struct {
	Hostname   string // a name: lower-case letters, digits, dashes
	Domain     string // "" for none
	InstanceID string // changes with each install; cloud-init runs anew for a new one
	MAC        string // the card it boots from
	Stage      string
	Pool       string
	Profile    string
	SSHKeys    []string
	Kernel     []string // further kernel arguments
}

// DataFor collects the data of a node. run makes each install an instance of
// its own.
func DataFor(n fleet.Node, p fleet.Profile, domain string, run fleet.RunID) Data {
	return Data{
		Hostname: n.Name, Domain: domain, InstanceID: string(n.ID) + "-" + string(run), MAC: string(n.MAC),
		Stage: string(n.Stage), Pool: string(n.Pool), Profile: p.Name, SSHKeys: p.SSHKey, Kernel: p.Kernel,
	}
}

// FQDN returns the name with its domain.
func (d Data) FQDN() string {
	if d.Domain == "" {
		return d.Hostname
	}
	return d.Hostname + "." + d.Domain
}

func (d Data) check() error {
	if !fleet.ValidName(d.Hostname) {
		return fleet.Invalidf("host name", "use lower-case letters, digits and dashes, at most 63", errors.New("not a host name"))
	}
	if _, err := fleet.ParseMAC(d.MAC); err != nil {
		return err
	}
	return nil
}
