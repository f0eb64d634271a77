package main

import (
	"fmt"

	"github.com/rackstage/provision/fleet"
)

// A biosFile is what machines of one model shall have in their BIOS setup.
type biosFile struct {
	Vendor string         `yaml:"vendor"`
	Model  string         `yaml:"model"`
	Set    map[string]any `yaml:"set"` // as the machine calls them: SysProfile: Performance
}

// bios reads the settings; a number may be written as one.
func (r *reader) bios(on string, files []biosFile) []fleet.BIOSSettings {
	var all []fleet.BIOSSettings
	for i, f := range files {
		b := fleet.BIOSSettings{Vendor: f.Vendor, Model: f.Model, Set: map[string]string{}}
		for name, value := range f.Set {
			switch value.(type) {
			case string, bool, int, int64, uint64, float64:
				b.Set[name] = fmt.Sprint(value)
			default:
				r.bad(fmt.Sprintf("%s.bios[%d].set", on, i), "write one value, in quotes if need be", "setting %q is a list, or nothing", name)
			}
		}
		all = append(all, b)
	}
	return all
}

// setup reads what a run does before it installs a machine; do is the word for
// doing it.
func (r *reader) setup(on, word, do string) fleet.SetupPolicy {
	switch word {
	case "", "leave":
		return fleet.SetupLeave
	case do:
		return fleet.SetupDemand
	case "where-possible":
		return fleet.SetupPossible
	}
	r.bad(on, "use leave, "+do+" (a machine that cannot do it fails) or where-possible (it is installed as it is)", "unknown policy %q", word)
	return fleet.SetupLeave
}

// A firmwareFile is the version that a component shall have on machines of a
// model.
type firmwareFile struct {
	Vendor    string `yaml:"vendor"`
	Model     string `yaml:"model"`
	Component string `yaml:"component"`
	Version   string `yaml:"version"`
	URL       string `yaml:"url"` // of the image; the BMC fetches it
}
