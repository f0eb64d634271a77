package lessons

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/pxe"
)

// Quirk is how a machine boots otherwise than usual: as site.yaml says, then
// as was learned of its model, then of itself. A firmware that asks again although
// it has had a loader teaches at this very moment.
func (l *Learner) Quirk(r pxe.Request, n fleet.Node) fleet.Quirk {
	l.mu.Lock()
	defer l.mu.Unlock()
	platform := r.Platform()
	if r.Firmware == pxe.NoBoot {
		platform = l.platformOf(r.MAC, n)
	}
	q := l.declared(r.MAC, n, r.Firmware, platform)
	if q.BlockSize == 0 {
		q.BlockSize, _ = l.block(r.MAC, n)
	}
	switch {
	case q.Loader != "":
	case q.HTTP == fleet.HTTPAsAsked && l.leaveToHTTP(r, n):
		q = q.Or(fleet.Quirk{HTTP: fleet.HTTPAlways, Reason: leftToHTTP})
	default:
		if r.Firmware == pxe.ROM || r.Firmware == pxe.HTTP {
			if v, ok := l.watch.AsksAgain(r.MAC, time.Now()); ok {
				l.learn(v)
			}
		}
		learned := l.recall(r.MAC, n, platform, r.Firmware)
		q = q.Or(fleet.Quirk{Loader: learned.Loader, Reason: learned.Reason})
	}
	return q
}

// declared is what site.yaml says of a platform, of each thing the first that it
// says; of one that is not known, what it says of all. A loader that is built for
// another platform says nothing.
func (l *Learner) declared(mac fleet.MAC, n fleet.Node, by pxe.Firmware, platform pxe.Platform) (all fleet.Quirk) {
	for _, q := range l.boots.Site().Quirks {
		if !q.Fits(mac, n) || q.Platform != "" && q.Platform != string(platform) {
			continue
		}
		if !pxe.Loads(by, platform, q.Loader) {
			q.Loader = ""
		}
		all = all.Or(q)
	}
	return all
}

// platformOf is the platform of a machine that asks for a file, as its firmware has
// said just now, or else its agent; "" when it may be one of several. The caller
// holds mu.
func (l *Learner) platformOf(mac fleet.MAC, n fleet.Node) pxe.Platform {
	if p, ok := l.watch.PlatformOf(mac); ok {
		return p
	}
	if pxe.IsPi(mac) {
		return pxe.PlatformPi
	}
	if all := platformsOf(n.Inventory); len(all) == 1 {
		return all[0]
	}
	return ""
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
// nothing. Of one that may be of several platforms, it is what is so on any.
func (l *Learner) OfNode(n fleet.Node) (q fleet.Quirk) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var why []string
	add := func(text string) {
		if text != "" && !slices.Contains(why, text) {
			why = append(why, text)
		}
	}
	small, blocks := 0, l.blockReason(n.MAC, n)
	for _, platform := range platformsOf(n.Inventory) {
		declared := l.declared(n.MAC, n, pxe.ROM, platform)
		small = cmp.Or(small, declared.BlockSize)
		if learned := l.recall(n.MAC, n, platform, pxe.ROM); declared.Loader == "" {
			q.Loader = cmp.Or(q.Loader, learned.Loader)
			add(learned.Reason)
		}
		q.Loader, q.HTTP = cmp.Or(q.Loader, declared.Loader), cmp.Or(q.HTTP, declared.HTTP)
		add(declaredText(declared))
		if declared.Loader == "" && declared.HTTP == fleet.HTTPAsAsked && l.prefersHTTP(n, platform) {
			add("left to HTTP boot, " + leftToHTTP)
		}
	}
	if small == 0 {
		add(blocks)
	}
	q.Reason = strings.Join(why, "; ")
	return q
}

// declaredText says for people what site.yaml says; "" for nothing.
func declaredText(q fleet.Quirk) string {
	var what []string
	if q.Loader != "" {
		what = append(what, "loader "+q.Loader)
	}
	if q.BlockSize != 0 {
		what = append(what, fmt.Sprintf("TFTP blocks of %d", q.BlockSize))
	}
	if q.HTTP != fleet.HTTPAsAsked {
		what = append(what, "HTTP boot "+string(q.HTTP))
	}
	if q.Rechain {
		what = append(what, "our loader for the iPXE in its ROM")
	}
	if q.NoAutoexec {
		what = append(what, "no autoexec.ipxe")
	}
	if len(what) == 0 {
		return ""
	}
	text := strings.Join(what, ", ") + ", as site.yaml says"
	if q.Reason != "" {
		text += ": " + q.Reason
	}
	return text
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
