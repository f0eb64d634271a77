package pxe

import (
	"time"

	"github.com/rackstage/provision/fleet"
)

// BootWindow is how long after its loader was fetched a machine must have come
// back, as iPXE, GRUB or whatever they start. The slowest loader seen needs
// 13 s of it; what comes later is believed all the same.
const BootWindow = 90 * time.Second

// A Watch follows the boots of machines from the loader that they are offered
// to what comes after it. It has no clock: facts bring their time.
type Watch struct {
	trials map[fleet.MAC]*trial
	left   map[fleet.MAC]Left
	limit  int
}

// A trial is one loader on one machine.
type trial struct {
	loader   string
	model    fleet.Quirk
	firmware Firmware
	at       time.Time // of the offer, then of the last byte fetched
	fetched  bool
	failed   bool // already told
	fell     bool // it is by HTTP, and PXE came to nothing just before
}

// A Verdict is the outcome of a boot, and whom it teaches about.
type Verdict struct {
	Outcome
	Model    fleet.Quirk
	Firmware Firmware
	Fell     bool // the firmware had gone on to it from PXE, which had come to nothing
}

// NewWatch returns a watch over at most limit machines at a time: what further
// ones do teaches nothing.
func NewWatch(limit int) *Watch {
	return &Watch{trials: map[fleet.MAC]*trial{}, left: map[fleet.MAC]Left{}, limit: limit}
}

// See takes a fact about a machine; n is zero for one that we do not know. It
// reports whether an outcome follows from the fact.
func (w *Watch) See(ev fleet.Evidence, n fleet.Node) (Verdict, bool) {
	t := w.trials[ev.MAC]
	switch {
	case ev.Phase == fleet.PhaseDHCP && (ev.Firmware == string(ROM) || ev.Firmware == string(HTTP)):
		return w.asks(ev, n, t)
	case t == nil:
	case ev.Phase == fleet.PhaseLoader && ev.File == t.loader:
		t.fetched, t.at = true, ev.At
	case ev.Phase == fleet.PhaseScript, ev.Phase == fleet.PhaseKernel, ev.Phase == fleet.PhaseDHCP && ev.Firmware == string(IPXE):
		delete(w.trials, ev.MAC)
		return t.verdict(ev, true), t.fetched
	}
	return Verdict{}, false
}

// Watches reports whether a loader is on trial on a machine.
func (w *Watch) Watches(mac fleet.MAC) bool { return w.trials[mac] != nil }

// PlatformOf returns the platform of a machine on which a loader is on trial.
func (w *Watch) PlatformOf(mac fleet.MAC) (Platform, bool) {
	t := w.trials[mac]
	if t == nil {
		return "", false
	}
	return Platform(t.model.Platform), true
}

// AsksAgain is for a firmware that asks for something to boot, before it is
// answered. When it has fetched its loader before, that was of no use to it.
func (w *Watch) AsksAgain(mac fleet.MAC, now time.Time) (v Verdict, out bool) {
	t := w.trials[mac]
	if t == nil || !t.fetched || t.failed {
		return Verdict{}, false
	}
	t.failed = true
	return t.verdict(fleet.Evidence{MAC: mac, At: now}, false), true
}

// asks: a firmware was answered.
func (w *Watch) asks(ev fleet.Evidence, n fleet.Node, t *trial) (v Verdict, out bool) {
	v, out = w.AsksAgain(ev.MAC, ev.At)
	if ev.Firmware == string(HTTP) {
		delete(w.left, ev.MAC)
	}
	if ev.PassedOn {
		w.leave(ev, n)
	}
	if !IsLoader(ev.File) || t == nil && len(w.trials) >= w.limit {
		delete(w.trials, ev.MAC)
		return v, out
	}
	next := &trial{
		loader: ev.File, model: ModelOf(ev.MAC, n, Platform(ev.Platform)), firmware: Firmware(ev.Firmware), at: ev.At,
	}
	next.fell = t != nil && next.firmware == HTTP && (t.fell || t.firmware == ROM && ev.At.Sub(t.at) < fallWithin)
	w.trials[ev.MAC] = next
	return v, out
}

func (t *trial) verdict(ev fleet.Evidence, works bool) Verdict {
	return Verdict{
		Outcome: Outcome{LoaderFailure: fleet.LoaderFailure{Loader: t.loader, MAC: ev.MAC, At: ev.At}, Works: works},
		Model:   t.model, Firmware: t.firmware, Fell: t.fell,
	}
}

// Expire returns the boots whose window has passed, and forgets those that
// nothing can come of any more.
func (w *Watch) Expire(now time.Time) (out []Verdict) {
	for mac, t := range w.trials {
		switch age := now.Sub(t.at); {
		case t.fetched && !t.failed && age > BootWindow:
			t.failed = true
			out = append(out, t.verdict(fleet.Evidence{MAC: mac, At: now}, false))
		case age > 10*BootWindow:
			delete(w.trials, mac)
		}
	}
	return out
}
