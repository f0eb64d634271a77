package pxe

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rackstage/provision/fleet"
)

// A loader that has worked on a model is given up after patience boots without
// a sign of it, of one machine or of several, and none with one in between: a
// cable may have been pulled once. One that has never worked there is given up
// at once.
const patience = 2

// maxFailures bounds what a lesson keeps. More teach nothing.
const maxFailures = 16

// maxGood bounds it likewise: no platform has as many loaders.
const maxGood = 8

// An Outcome is what became of one loader on one machine.
type Outcome struct {
	fleet.LoaderFailure      // which loader, on which machine, when
	Works               bool // something came after it
}

// Learn returns what is known after an outcome, and whether that is anything
// new. loaders is what the model can be given.
func Learn(l fleet.Lesson, o Outcome, loaders []Loader) (fleet.Lesson, bool) {
	if o.Works {
		rest := slices.DeleteFunc(slices.Clone(l.Failures), func(f fleet.LoaderFailure) bool { return f.Loader == o.Loader })
		known := slices.Contains(l.Good, o.Loader)
		if known && len(rest) == len(l.Failures) {
			return l, false
		}
		if !known {
			l.Good = append(slices.Clone(l.Good[max(0, len(l.Good)-maxGood+1):]), o.Loader)
		}
		l.Failures = rest
		return l, true
	}
	l.Failures = append(slices.Clone(l.Failures[max(0, len(l.Failures)-maxFailures+1):]), o.LoaderFailure)
	// When all have failed, the fault may lie elsewhere: all get another try,
	// beginning with the first that is not the one of just now.
	if !slices.ContainsFunc(loaders, func(x Loader) bool { return !givenUp(l, x.File) }) {
		l.Good, l.Failures = nil, []fleet.LoaderFailure{o.LoaderFailure}
	}
	return l, true
}

func givenUp(l fleet.Lesson, file string) bool {
	failed := 0
	for _, f := range l.Failures {
		if f.Loader == file {
			failed++
		}
	}
	return failed >= patience || failed > 0 && !slices.Contains(l.Good, file)
}

// QuirkOf turns a lesson into the quirk of its model: the best loader that has
// not been given up. Where that is the usual one, there is none. That another
// one has worked is no reason: a machine with Secure Boot may have got it.
func QuirkOf(l fleet.Lesson, loaders []Loader) fleet.Quirk {
	i := slices.IndexFunc(loaders, func(x Loader) bool { return !givenUp(l, x.File) })
	if i <= 0 {
		return fleet.Quirk{}
	}
	q := l.Model
	var failed []string
	for _, x := range loaders[:i] {
		if givenUp(l, x.File) {
			failed = append(failed, x.File)
		}
	}
	on := "this model"
	if !IsModel(q) {
		on = "this machine"
	}
	q.Loader, q.Reason = loaders[i].File, fmt.Sprintf("learned: %s did not start on %s", strings.Join(failed, " and "), on)
	return q
}

// ModelOf says which machines share what is learned from this one: those of
// its vendor and product. As long as nobody has approved it, both are but what
// somebody says, as its address is: it learns for itself alone.
func ModelOf(mac fleet.MAC, n fleet.Node, p Platform) fleet.Quirk {
	if n.Approved && n.Inventory.Product != "" {
		return fleet.Quirk{Vendor: n.Inventory.Vendor, Product: n.Inventory.Product, Platform: string(p)}
	}
	return fleet.Quirk{MACPrefix: string(mac), Platform: string(p)}
}

// IsModel reports whether what [ModelOf] returned is shared by machines.
func IsModel(q fleet.Quirk) bool { return q.Product != "" }

// ModelName is a model in words.
func ModelName(q fleet.Quirk) string {
	if name := strings.TrimSpace(q.Vendor + " " + q.Product); name != "" {
		return name
	}
	return "machine " + q.MACPrefix
}
