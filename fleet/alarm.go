package fleet

import "time"

// An Alarm is trouble that lasts. It stands for as long as its cause is seen:
// who sees it raises it again and again, and clears it when it is over.
// Code and On together say which alarm it is.
type Alarm struct {
	Code   string // of a [Diagnosis]: "E-DHCP-ROGUE"
	On     string // what it is about: "subnet prd-boot", "10.20.0.254 on subnet prd-boot"
	Detail string // what was seen, one line; hostile text
	Since  time.Time
	Seen   time.Time // last
	Count  int64     // how often
}

// AlarmHold is how long an alarm stands after it was last raised: whoever
// raises one does so more often than that, or clears it.
const AlarmHold = 5 * time.Minute
