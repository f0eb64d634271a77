package fleet

import "time"

// A Lesson is what boots have taught about one model: its loaders, or
// what comes through to it.
type Lesson struct {
	Model    Quirk    // which machines: Vendor and Product, or MACPrefix, and Platform
	Good     []string // the loaders that have worked
	Failures []LoaderFailure

	// Stalls are the machines that large TFTP blocks did not come through to. They
	// have nothing to do with the platform, which the Model of such a lesson lacks.
	Stalls []BootMark

	// ByHTTP are boots in which the firmware's PXE came to nothing, and the UEFI
	// HTTP boot that it went on to did not.
	ByHTTP []BootMark
}

// A BootMark is one boot that something is remembered of.
type BootMark struct {
	MAC MAC
	At  time.Time
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
