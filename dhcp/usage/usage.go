// Package usage says how full ranges of addresses are, when they will be, and
// raises alarms before that.
package usage

import (
	"context"
	"fmt"
	"time"

	"github.com/rackstage/provision/dhcp/alarm"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/internal/repeat"
)

// A Use says how full the ranges of a subnet are, or those of one of its
// classes.
type Use struct {
	Subnet   string
	Class    string // "" for the subnet's own ranges
	Size     int    // addresses that can be given
	Used     int    // leased now
	Declined int    // in quarantine: somebody else uses them

	Strangers    int // addresses that machines nobody has approved have, or had last
	MostOfThem   int // how many those may have
	Growth       int // leases more than an hour ago, or than at the start
	FullIn       time.Duration
	FullForecast bool // FullIn says when it is full, if that goes on
}

// Free is how many addresses can be given now.
func (u Use) Free() int { return max(0, u.Size-u.Used-u.Declined) }

// Percent is how much of it is used.
func (u Use) Percent() int {
	if u.Size == 0 {
		return 0
	}
	return (u.Used + u.Declined) * 100 / u.Size
}

// On names it in an alarm.
func (u Use) On() string {
	if u.Class != "" {
		return fmt.Sprintf("subnet %s, class %s", u.Subnet, u.Class)
	}
	return "subnet " + u.Subnet
}

const (
	checkEvery  = 10 * time.Second
	sampleEvery = time.Minute
	samplesKept = 61 // an hour of them, and now
	lowPercent  = 80
	wellPercent = 75 // so that an alarm does not come and go with each lease
	manyDecline = 5  // percent of the addresses, and three of them at least: no accident
)

// A History is how many addresses were leased, one sample a minute.
type History struct {
	samples []int // the newest last
}

// Add adds a sample.
func (h *History) Add(used int) {
	h.samples = append(h.samples, used)
	h.samples = h.samples[max(0, len(h.samples)-samplesKept):]
}

// Forecast fills in how a use grows, and until when that can go on.
func (h *History) Forecast(u *Use) {
	n := len(h.samples)
	if n < 2 {
		return
	}
	u.Growth = u.Used - h.samples[0]
	if past := time.Duration(n-1) * sampleEvery; u.Growth > 0 {
		u.FullForecast, u.FullIn = true, past*time.Duration(u.Free())/time.Duration(u.Growth)
	}
}

// Watch raises alarms before and when addresses run out, until ctx is done. use
// takes stock; when sample is true it adds to the histories.
func Watch(ctx context.Context, board *alarm.Board, use func(sample bool) []Use) {
	checks := 0
	repeat.Every(ctx, checkEvery, func() {
		Check(board, use(checks%int(sampleEvery/checkEvery) == 0))
		board.Expire()
		checks++
	})
}

// Check raises and clears the alarms about how full ranges are.
func Check(board *alarm.Board, uses []Use) {
	for _, u := range uses {
		switch percent := u.Percent(); {
		case percent >= lowPercent:
			board.Raise(fleet.CodePoolForecast, u.On(), u.forecast())
		case percent < wellPercent:
			board.Clear(fleet.CodePoolForecast, u.On())
		}
		if u.Declined >= 3 && u.Declined*100 >= u.Size*manyDecline {
			board.Raise(fleet.CodeDeclines, u.On(), fmt.Sprintf("%d of %d addresses are in quarantine: somebody else uses them", u.Declined, u.Size))
		}
	}
}

// forecast says in words when the addresses run out.
func (u Use) forecast() string {
	text := fmt.Sprintf("%d of %d addresses are in use (%d %%)", u.Used+u.Declined, u.Size, u.Percent())
	if !u.FullForecast {
		return text + ", and no more than an hour ago"
	}
	return fmt.Sprintf("%s, full in %s at the rate of the last hour", text, roughly(u.FullIn))
}

// roughly writes a time as people say it.
func roughly(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return "a minute"
	case d < 2*time.Hour:
		return fmt.Sprintf("%d minutes", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d hours", d/time.Hour)
	default:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	}
}
