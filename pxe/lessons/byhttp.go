package lessons

import (
	"fmt"
	"time"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/pxe"
)

const leftToHTTP = "learned: PXE came to nothing on two of this model, and they booted by HTTP"

// learnWay keeps which way a boot came that worked. The caller holds mu.
func (l *Learner) learnWay(v pxe.Verdict) {
	if !v.Works || !pxe.IsModel(v.Model) {
		return // a machine alone would be left to what somebody sent in its name
	}
	lesson, _ := l.book.of(v.Model)
	switch {
	case v.Fell:
		before := pxe.PrefersHTTP(lesson, v.At)
		lesson = pxe.FellToHTTP(lesson, fleet.BootMark{MAC: v.MAC, At: v.At})
		if !before && pxe.PrefersHTTP(lesson, v.At) {
			l.tellWay(v.MAC, v.At, fmt.Sprintf("its PXE came to nothing, and it booted by HTTP; %s is left to HTTP boot next time", pxe.ModelName(v.Model)))
		}
	case v.Firmware == pxe.ROM && len(lesson.ByHTTP) > 0:
		lesson.ByHTTP = nil
	default:
		return
	}
	l.book.keep(lesson)
}

// leaveToHTTP reports whether a firmware's PXE is to be told to end, so that it goes
// on to HTTP boot. Where it cannot be told so, silence would keep it for a minute. The
// caller holds mu.
func (l *Learner) leaveToHTTP(r pxe.Request, n fleet.Node) bool {
	if r.Firmware != pxe.ROM || r.NoPassOn {
		return false
	}
	now, model := time.Now(), pxe.ModelOf(r.MAC, n, r.Platform())
	lesson, ok := l.book.of(model)
	return ok && pxe.PrefersHTTP(lesson, now) && !l.watch.IsStranded(r.MAC, now)
}

// prefersHTTP says for people whether a node of a platform is left to HTTP boot. The
// caller holds mu.
func (l *Learner) prefersHTTP(n fleet.Node, p pxe.Platform) bool {
	lesson, ok := l.book.of(pxe.ModelOf(n.MAC, n, p))
	return ok && pxe.PrefersHTTP(lesson, time.Now())
}

// stranded ends that for the models of machines that did not come by HTTP. The
// caller holds mu.
func (l *Learner) stranded(now time.Time) {
	for _, m := range l.watch.Stranded(now) {
		lesson, ok := l.book.of(m.Model)
		if !ok || len(lesson.ByHTTP) == 0 {
			continue
		}
		lesson.ByHTTP = nil
		l.book.keep(lesson)
		l.tellWay(m.MAC, now, fmt.Sprintf("it was left to HTTP boot and did not come; %s gets loaders by PXE again", pxe.ModelName(m.Model)))
	}
}

// tellWay makes a fact of it: the machine's timeline shows it.
func (l *Learner) tellWay(mac fleet.MAC, at time.Time, text string) {
	l.boots.Observe(fleet.Evidence{At: at, MAC: mac, Phase: fleet.PhaseDHCP, Detail: fleet.CleanText(text)})
	l.log.Warn("which way a model boots", "mac", mac, "what", text)
}
