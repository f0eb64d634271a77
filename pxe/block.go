package pxe

import (
	"slices"
	"time"

	"github.com/rackstage/provision/fleet"
)

// SmallBlock is the TFTP block that every firmware and every way to it takes
// (RFC 1350).
const SmallBlock = 512

// Large TFTP blocks that never come through are the fault of a way, or of a
// model. The machine itself gets small ones at once, its model when they did not
// come through to a second one, with none of it for which they did in between.
// Neither is for ever: the way may be mended.
const (
	stallsOfModel = 2
	lessonLasts   = 30 * 24 * time.Hour // where a way or a setup has its part in it
)

// Stalled returns what is known after large blocks did not come through to a
// machine, and whether small ones follow from it that did not before.
func Stalled(l fleet.Lesson, s fleet.BootMark) (fleet.Lesson, bool) {
	before := BlockOf(l, s.At)
	rest := slices.DeleteFunc(slices.Clone(l.Stalls), func(o fleet.BootMark) bool { return o.MAC == s.MAC || s.At.Sub(o.At) >= lessonLasts })
	l.Stalls = append(rest[max(0, len(rest)-stallsOfModel+1):], s)
	return l, before == 0 && BlockOf(l, s.At) != 0
}

// BlockOf is the largest TFTP block for machines of a lesson; 0: whatever they
// ask for.
func BlockOf(l fleet.Lesson, now time.Time) int {
	enough := stallsOfModel
	if !IsModel(l.Model) {
		enough = 1
	}
	lately := 0
	for _, s := range l.Stalls {
		if now.Sub(s.At) < lessonLasts {
			lately++
		}
	}
	if lately < enough {
		return 0
	}
	return SmallBlock
}
