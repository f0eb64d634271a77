package fleet

import "time"

// A Lesson is what boots have taught about one model: its loaders, or
// what comes through to it.
type Lesson struct {
	Model    Quirk    // which machines: Vendor and Product, or MACPrefix, and Platform
	Good     []string // the loaders that have worked
	Failures []LoaderFailure

	// BlockSize is the largest TFTP block that gets through to them; 0 when nothing
	// is known. It has nothing to do with the platform, whose Model has none.
	BlockSize int
}

// A LoaderFailure is one boot in which a loader was fetched and nothing came
// after it. What works is forgiven: its failures are forgotten.
type LoaderFailure struct {
	Loader string
	MAC    MAC
	At     time.Time
}

// Key names a lesson in the store.
func (l Lesson) Key() string {
	return l.Model.Platform + "|" + l.Model.Vendor + "|" + l.Model.Product + "|" + l.Model.MACPrefix
}
