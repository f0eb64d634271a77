package pxe

import (
	"slices"
	"time"

	"github.com/rackstage/provision/fleet"
)

// Firmware that has tried PXE in vain may go on to HTTP boot; whether it does is
// a matter of its setup. Where fallsOfModel machines of a model did, and booted,
// its PXE is told to end at once, which saves it the minutes of trying. A machine that
// has not come by HTTP within fallWithin of that ends it for its model.
const (
	fallsOfModel = 2               // machines
	fallWithin   = 5 * time.Minute // PXE of both families, each asking for a minute
)

// FellToHTTP returns what is known after a boot by HTTP to which the firmware had
// gone on from PXE. One machine alone teaches nothing: its way may be bad.
func FellToHTTP(l fleet.Lesson, m fleet.BootMark) fleet.Lesson {
	others := slices.DeleteFunc(slices.Clone(l.ByHTTP), func(o fleet.BootMark) bool { return o.MAC == m.MAC || m.At.Sub(o.At) >= lessonLasts })
	l.ByHTTP = append(others[max(0, len(others)-fallsOfModel+1):], m)
	return l
}

// PrefersHTTP reports whether the machines of a lesson are left to HTTP boot.
func PrefersHTTP(l fleet.Lesson, now time.Time) bool {
	lately := 0
	for _, m := range l.ByHTTP {
		if now.Sub(m.At) < lessonLasts {
			lately++
		}
	}
	return lately >= fallsOfModel
}

// A Left machine is left to HTTP boot since a time.
type Left struct {
	fleet.BootMark
	Model fleet.Quirk
}

// leave notes that a machine's PXE was told to end.
func (w *Watch) leave(ev fleet.Evidence, n fleet.Node) {
	if _, waits := w.left[ev.MAC]; !waits && len(w.left) < w.limit {
		w.left[ev.MAC] = Left{BootMark: fleet.BootMark{MAC: ev.MAC, At: ev.At}, Model: ModelOf(ev.MAC, n, Platform(ev.Platform))}
	}
}

// IsStranded reports whether a machine was left to HTTP boot for long, and has
// not come.
func (w *Watch) IsStranded(mac fleet.MAC, now time.Time) bool {
	m, waits := w.left[mac]
	return waits && now.Sub(m.At) >= fallWithin
}

// Stranded returns the machines that were left to HTTP boot and did not come, and
// forgets them.
func (w *Watch) Stranded(now time.Time) (out []Left) {
	for mac, m := range w.left {
		if w.IsStranded(mac, now) {
			delete(w.left, mac)
			out = append(out, m)
		}
	}
	return out
}
