package lessons

import (
	"cmp"
	"strings"
	"time"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/pxe"
)

// Quirk is how a machine boots otherwise than usual: as site.yaml says, then
// as was learned of its model, then of itself.
func (l *Learner) Quirk(r pxe.Request, n fleet.Node) fleet.Quirk {
	q := l.declared(r, n)
	if q.BlockSize == 0 {
		l.mu.Lock()
		q.BlockSize, _ = l.block(r.MAC, n)
		l.mu.Unlock()
	}
	if q.Loader != "" {
		return q
	}
	if q.HTTP == fleet.HTTPAsAsked && l.leaveToHTTP(r, n) {
		q.HTTP, q.Reason = fleet.HTTPAlways, leftToHTTP
		return q
	}
	learned := l.learned(r, n)
	if learned.Loader == "" {
		return q
	}
	if q.Reason != "" {
		learned.Reason = q.Reason + "; " + learned.Reason
	}
	q.Loader, q.Reason = learned.Loader, learned.Reason
	return q
}

// declared is what site.yaml says, of each thing the first that it says. Who asks
// not as a firmware, but for a file by TFTP, has a platform that is not known.
func (l *Learner) declared(r pxe.Request, n fleet.Node) (all fleet.Quirk) {
	for _, q := range l.boots.Site().Quirks {
		if q.Fits(r.MAC, n) && (q.Platform == "" || r.Firmware == pxe.NoBoot || q.Platform == string(r.Platform())) {
			all = all.Or(q)
		}
	}
	return all
}

// learned is what boots have taught. A firmware that asks again although it
// has had a loader teaches at this very moment.
func (l *Learner) learned(r pxe.Request, n fleet.Node) fleet.Quirk {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.Firmware == pxe.ROM || r.Firmware == pxe.HTTP {
		if v, ok := l.watch.AsksAgain(r.MAC, time.Now()); ok {
			l.learn(v)
		}
	}
	return l.recall(r.MAC, n, r.Platform(), r.Firmware)
}

// recall is what is known of a machine's model, or else of itself, that makes a
// difference. The caller holds mu.
func (l *Learner) recall(mac fleet.MAC, n fleet.Node, platform pxe.Platform, by pxe.Firmware) fleet.Quirk {
	for _, model := range []fleet.Quirk{pxe.ModelOf(mac, n, platform), pxe.ModelOf(mac, fleet.Node{}, platform)} {
		lesson, ok := l.book.of(model)
		if q := pxe.QuirkOf(lesson, pxe.LoadersFor(by, platform)); ok && q.Loader != "" {
			return q
		}
	}
	return fleet.Quirk{}
}

// OfNode is how a node will boot otherwise than usual, for people: it teaches
// nothing.
func (l *Learner) OfNode(n fleet.Node) fleet.Quirk {
	l.mu.Lock()
	defer l.mu.Unlock()
	q, declared := l.loaderOf(n), l.declared(pxe.Request{MAC: n.MAC}, n)
	var why []string
	if q.Reason != "" {
		why = append(why, q.Reason)
	}
	if blocks := l.blockReason(n.MAC, n); blocks != "" && declared.BlockSize == 0 {
		why = append(why, blocks)
	}
	if declared.Loader == "" && declared.HTTP == fleet.HTTPAsAsked && l.prefersHTTP(n) {
		why = append(why, "left to HTTP boot, "+leftToHTTP)
	}
	q.Reason = strings.Join(why, "; ")
	return q
}

func (l *Learner) loaderOf(n fleet.Node) fleet.Quirk {
	for _, platform := range platformsOf(n.Inventory) {
		for _, q := range l.boots.Site().Quirks {
			if q.Fits(n.MAC, n) && (q.Platform == "" || q.Platform == string(platform)) && q.Loader != "" {
				return fleet.Quirk{Loader: q.Loader, Reason: cmp.Or(q.Reason, "site.yaml says so")}
			}
		}
		if q := l.recall(n.MAC, n, platform, pxe.ROM); q.Loader != "" {
			return q
		}
	}
	return fleet.Quirk{}
}

// platformsOf is what a machine may be. One whose agent has not told may be any.
func platformsOf(inv fleet.Inventory) []pxe.Platform {
	switch {
	case inv.Arch == "arm64":
		return []pxe.Platform{pxe.PlatformARM64}
	case inv.Firmware == "bios":
		return []pxe.Platform{pxe.PlatformBIOS}
	case inv.Firmware != "":
		return []pxe.Platform{pxe.PlatformX64}
	default:
		return []pxe.Platform{pxe.PlatformX64, pxe.PlatformBIOS, pxe.PlatformARM64}
	}
}
