package fleet

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// BIOSSettings are what machines of one model shall have in their firmware's
// setup. Models call everything by other names.
type BIOSSettings struct {
	Vendor string // contained in the vendor, ignoring case; "" is any
	Model  string // contained in the model, likewise
	Set    map[string]string
}

// BIOS is what a machine has in its firmware's setup, all as text.
type BIOS struct {
	Attributes map[string]string
	Pending    map[string]string // what will be so after the next start, where that differs
}

// A BIOSChange is a setting that is not as it shall be.
type BIOSChange struct {
	Name, Is, Want string
	Pending        bool // it will be so after the next start
	Unknown        bool // the machine has no such setting
}

// BIOSOf returns what the machines of a model shall have: of settings that are
// there twice, the later ones.
func (p Profile) BIOSOf(vendor, model string) map[string]string {
	want := map[string]string{}
	for _, b := range p.BIOS {
		if containsFold(vendor, b.Vendor) && containsFold(model, b.Model) {
			maps.Copy(want, b.Set)
		}
	}
	return want
}

// Diff returns what is not as it shall be, in order of name.
func (b BIOS) Diff(want map[string]string) (changes []BIOSChange) {
	for _, name := range slices.Sorted(maps.Keys(want)) {
		is, known := b.Attributes[name]
		if known && is == want[name] && (b.Pending[name] == "" || b.Pending[name] == is) {
			continue
		}
		changes = append(changes, BIOSChange{
			Name: name, Is: is, Want: want[name], Unknown: !known, Pending: b.Pending[name] == want[name],
		})
	}
	return changes
}

// Limits of what can be declared and is read.
const (
	MostAttributes   = 4096
	longestAttribute = 128
)

func (p Profile) validateBIOS(on string) error {
	var errs []error
	for i, b := range p.BIOS {
		at := fmt.Sprintf("%s.bios[%d]", on, i)
		if len(b.Set) == 0 {
			errs = append(errs, Invalidf(at+".set", "write NAME: VALUE, as the machine calls them: provision bmc bios NODE --all", errors.New("no settings")))
		}
		for name, value := range b.Set {
			if name == "" || len(name) > longestAttribute || CleanText(name) != name || CleanText(value) != value || strings.ContainsAny(name, " /@") {
				errs = append(errs, Invalidf(at+".set", "see how the machine calls them: provision bmc bios NODE --all", fmt.Errorf("%q is no setting", clip(name, 80))))
			}
		}
	}
	return errors.Join(errs...)
}
