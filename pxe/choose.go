package pxe

import (
	"fmt"
	"slices"

	"github.com/rackstage/provision/fleet"
)

// A choice is a loader, and what made it another than usual.
type choice struct {
	Loader
	why string // "" or ", " and a reason
}

// loader picks the loader for a firmware, or says why it gets none: the plan
// has a reason then.
//
// What the operator or experience says of the model comes first, then what the
// machine itself said: one whose agent found Secure Boot on is given what is
// signed. Whether it is on cannot be seen in a DHCP packet.
func (r Request) loader(n fleet.Node) (choice, Plan) {
	if use := r.Quirk.HTTP; use == fleet.HTTPNever && r.Firmware == HTTP || use == fleet.HTTPAlways && r.Firmware == ROM {
		return choice{}, Plan{
			Action: Ignore, PassOn: r.Firmware == ROM,
			Reason: fmt.Sprintf("%s firmware is not served on this model: %s", r.Firmware, r.Quirk.Why()),
		}
	}
	all := LoadersFor(r.Firmware, r.Platform())
	if len(all) == 0 {
		return choice{}, Plan{Action: Ignore, Code: fleet.CodeNoLoader, Reason: r.noLoader()}
	}
	if file := r.Quirk.Loader; file != "" {
		i := slices.IndexFunc(all, func(l Loader) bool { return l.File == file })
		switch {
		case i >= 0:
			return choice{all[i], ", " + r.Quirk.Why()}, Plan{}
		case !IsLoader(file): // the operator's own; one of ours is for another platform
			return choice{Loader{File: file}, ", " + r.Quirk.Why()}, Plan{}
		}
	}
	if n.Inventory.Secure {
		if i := slices.IndexFunc(all, func(l Loader) bool { return l.Signed }); i >= 0 {
			return choice{all[i], ", signed because Secure Boot is on"}, Plan{}
		}
	}
	return choice{Loader: all[0]}, Plan{}
}

func (r Request) noLoader() string {
	switch p := r.Platform(); p {
	case "":
		return fmt.Sprintf("no loader for architecture %d (%s firmware)", r.Arch, r.Firmware)
	default:
		return fmt.Sprintf("no loader for %s, architecture %d (%s firmware)", p, r.Arch, r.Firmware)
	}
}

// rechains reports whether iPXE in a ROM is to be treated as a mere ROM.
func (r Request) rechains() bool { return r.Firmware == IPXE && r.OldIPXE && r.Quirk.Rechain }

// runsScripts reports whether a firmware is one of the loaders that fetch what
// to do next as a script.
func (f Firmware) runsScripts() bool { return f == IPXE || f == GRUB }
