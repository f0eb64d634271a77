package foreign

import (
	"time"
)

const (
	framesPerSecond  = 5000
	repliesPerSecond = 100
)

// rooms is how much of what a network says is looked at: so many frames, and of
// each kind so many replies. Who floods us with one kind does not keep another
// from being heard, the answers to our probes least of all.
type rooms struct {
	frames  limiter
	replies [4]limiter
}

func (r *rooms) of(router, answer bool) *limiter {
	i := 0
	if router {
		i++
	}
	if answer {
		i += 2
	}
	return &r.replies[i]
}

// A limiter lets so many through each second.
type limiter struct {
	second int64
	used   int
}

func (l *limiter) take(now time.Time, most int) bool {
	if s := now.Unix(); s != l.second {
		l.second, l.used = s, 0
	}
	l.used++
	return l.used <= most
}
