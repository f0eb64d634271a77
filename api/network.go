package api

import "time"

// Alarm is trouble that there is now.
type Alarm struct {
	Code   string    `json:"code"`  // stable: "E-DHCP-ROGUE"
	Title  string    `json:"title"` // what is the matter
	On     string    `json:"on"`    // what it is about
	Detail string    `json:"detail,omitempty"`
	Fix    string    `json:"fix,omitempty"` // what to do
	Since  time.Time `json:"since"`
	Seen   time.Time `json:"seen"`  // last
	Count  int64     `json:"count"` // how often
}

// AlarmList is the trouble that there is now, newest first.
type AlarmList struct {
	Alarms []Alarm `json:"alarms"`
}
