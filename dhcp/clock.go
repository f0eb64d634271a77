package dhcp

import "time"

// A clock says when leases, offers and floods end. It goes on evenly while we
// run, whatever becomes of the wall clock: one that is put back by an hour
// would silence every machine that was heard lately, and keep what was only
// offered; one that is put forward would give leases away that still hold.
// People and the disk have the time of the wall.
type clock struct {
	wall func() time.Time
	step func(now time.Time) time.Duration // how far the wall clock was put since we began
}

func newClock(wall func() time.Time) *clock {
	began := wall()
	return &clock{wall: wall, step: func(now time.Time) time.Duration {
		// What is less than a second is the clock being disciplined.
		return (now.Round(0).Sub(began.Round(0)) - now.Sub(began)).Truncate(time.Second)
	}}
}

// now is the time.
func (c *clock) now() instant {
	t := c.wall()
	return instantOf(t).add(-c.step(t))
}

// of returns when the wall clock, as it goes now, will show a time.
func (c *clock) of(t time.Time) instant {
	if t.IsZero() {
		return 0
	}
	return instantOf(t).add(-c.step(c.wall()))
}

// time is what the wall clock, as it goes now, will show then.
func (c *clock) time(i instant) time.Time {
	if i == 0 {
		return time.Time{}
	}
	return i.add(c.step(c.wall())).time()
}
