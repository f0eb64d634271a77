package access

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"time"

	"github.com/rackstage/provision/fleet"
)

// Alarms is told of trouble that lasts, again and again for as long as it does.
type Alarms interface {
	Raise(code, on, detail string)
	Clear(code, on string)
}

const watchEvery = 10 * time.Second

// Watch raises an alarm for each relay that is not heard, and for what those that
// are say is wrong with them, until ctx is done. One that has not enrolled yet is not missed by anybody.
func (r *Relays) Watch(ctx context.Context, alarms Alarms) error {
	began, standing := r.now(), map[alarmKey]string{}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		r.lookAround(began, alarms, standing)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// An alarmKey is a kind of trouble, and what has it.
type alarmKey struct{ code, on string }

// lookAround raises and ends alarms. standing are those that stand: those of a
// relay which was removed end as well.
func (r *Relays) lookAround(began time.Time, alarms Alarms, standing map[alarmKey]string) {
	now := map[alarmKey]string{}
	for _, relay := range r.List() {
		if detail := r.silence(relay, began); detail != nil {
			now[alarmKey{fleet.CodeRelaySilent, relay.On()}] = detail.Error()
			continue // what it said last may be over
		}
		for _, t := range r.Status(relay.Name).Trouble {
			k := alarmKey{t.Code, relay.On()}
			if now[k] != "" {
				t.Detail = now[k] + "; " + t.Detail
			}
			now[k] = t.Detail
		}
	}
	for k, detail := range now {
		alarms.Raise(k.code, k.on, detail)
	}
	for k := range standing {
		if _, stands := now[k]; !stands {
			alarms.Clear(k.code, k.on)
		}
	}
	clear(standing)
	maps.Copy(standing, now)
}

// silence says since when a relay is not heard; nil for one that is.
func (r *Relays) silence(relay fleet.Relay, began time.Time) error {
	if relay.Enrolled.IsZero() {
		return nil
	}
	last := r.Status(relay.Name)
	switch quiet := r.now().Sub(latest(last.Seen, began)); {
	case quiet < fleet.RelaySilence:
		return nil
	case last.Seen.IsZero():
		return errors.New("not heard since this server started")
	default:
		return fmt.Errorf("last heard at %s, from %s", last.Seen.UTC().Format(time.DateTime+" UTC"), addrText(last.From))
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return "an address that is not known"
	}
	return a.String()
}
