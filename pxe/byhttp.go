package pxe

import (
	"slices"
	"time"

	"github.com/rackstage/provision/fleet"
)

// Firmware that has tried PXE in vain may go on to HTTP boot; whether it does is
// a matter of its setup. The PXE of a model that did, and booted, in fallsOfModel
// boots is told to end at once, which saves it the minutes of trying. A machine that
// has not come by HTTP within fallWithin of that ends it for its model.
const (
	fallsOfModel = 2
	fallWithin   = 5 * time.Minute // PXE of both families, each asking for a minute
)

// FellToHTTP returns what is known after a boot by HTTP to which the firmware had
// gone on from PXE.
func FellToHTTP(l fleet.Lesson, m fleet.BootMark) fleet.Lesson {
	lately := slices.DeleteFunc(slices.Clone(l.ByHTTP), func(o fleet.BootMark) bool { return m.At.Sub(o.At) >= lessonLasts })
	l.ByHTTP = append(lately[max(0, len(lately)-fallsOfModel+1):], m)
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

// LeaveToHTTP reports whether a machine's PXE may be told to end: not when it has
// been left to HTTP for long and has not come.
func (w *Watch) LeaveToHTTP(m Left) bool {
	if before, waits := w.left[m.MAC]; waits {
		return m.At.Sub(before.At) < fallWithin
	}
	if len(w.left) >= w.limit {
		return false
	}
	w.left[m.MAC] = m
	return true
}

// Stranded returns the machines that were left to HTTP boot and did not come, and
// forgets them.
func (w *Watch) Stranded(now time.Time) (out []Left) {
	for mac, m := range w.left {
		if now.Sub(m.At) >= fallWithin {
			delete(w.left, mac)
			out = append(out, m)
		}
	}
	return out
}
