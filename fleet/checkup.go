package fleet

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Health is how a part is, as the BMC has it, or a whole machine.
type Health string

// The healths. A BMC that does not say leaves it unknown.
const (
	HealthUnknown  Health = ""
	HealthOK       Health = "ok"
	HealthWarning  Health = "warning"
	HealthCritical Health = "critical"
)

// rank orders healths, the worst last.
func (h Health) rank() int {
	return slices.Index([]Health{HealthUnknown, HealthOK, HealthWarning, HealthCritical}, h)
}

// Worse returns the worse of two.
func (h Health) Worse(other Health) Health {
	if other.rank() > h.rank() {
		return other
	}
	return h
}

// Bad reports whether somebody should see to it.
func (h Health) Bad() bool { return h == HealthWarning || h == HealthCritical }

// A Checkup is what a node's BMC says about its machine, as it was read at one
// time, whether the machine is on or not. All texts in it are hostile; they are
// clean, and no longer than [CleanText] leaves them.
type Checkup struct {
	Node NodeID

	Tried  time.Time // the last time that the BMC was asked
	At     time.Time // the last time that it answered; zero: never
	Failed int       // how often in a row it did not answer since
	Error  string    // why, the last time

	Via    BMCDriver
	Power  PowerState
	Health Health
	Watts  float64 // 0: it does not say

	Hardware Hardware
	Sensors  []Sensor
	Faults   []Fault // parts that are not well
	Log      EventLog
	Lacks    []string // what the BMC does not offer: "power draw"
}

// Hardware is what seldom changes. It is read less often than the rest.
type Hardware struct {
	At                          time.Time
	Vendor, Model, Serial, Part string
	UUID, AssetTag              string
	Processors                  []string // models
	Cores                       int
	MemoryMiB                   int
	MACs                        []MAC
	Firmware                    []Firmware
}

// Firmware is one component with firmware.
type Firmware struct {
	ID         string // as the BMC calls it: "BIOS"
	Name       string
	Version    string
	Updateable bool
}

// A Sensor is one reading.
type Sensor struct {
	Name   string
	Kind   string  // temperature, fan, power, voltage, current
	Value  float64 // in Unit
	Unit   string  // "°C", "rpm", "%", "W", "V", "A"
	Upper  float64 // critical above that; 0: not known
	Health Health
}

// A Fault is a part that is not well.
type Fault struct {
	Part   string
	Health Health
	Detail string
}

// An EventLog is what the BMC has written down.
type EventLog struct {
	Name    string // of the log, as the BMC has it
	Total   int    // entries
	Entries []LogEntry
}

// A LogEntry is one line of a BMC's log.
type LogEntry struct {
	ID     string
	At     time.Time // by the BMC's clock; zero when it has none
	Health Health
	Text   string
	New    bool // it came while we were watching
}

// Limits of what is kept of one BMC.
const (
	MostSensors  = 256
	MostFirmware = 128
	MostFaults   = 32
	MostEntries  = 50
)

// Bounded returns the checkup without what is more than is kept, its log newest
// first.
func (c Checkup) Bounded() Checkup {
	c.Sensors = c.Sensors[:min(len(c.Sensors), MostSensors)]
	c.Faults = c.Faults[:min(len(c.Faults), MostFaults)]
	c.Hardware.Firmware = c.Hardware.Firmware[:min(len(c.Hardware.Firmware), MostFirmware)]
	c.Log.Entries = slices.Clone(c.Log.Entries)
	slices.SortStableFunc(c.Log.Entries, func(a, b LogEntry) int { return b.At.Compare(a.At) })
	c.Log.Entries = c.Log.Entries[:min(len(c.Log.Entries), MostEntries)]
	return c
}

// After returns the checkup as the one that follows another: what was not read
// this time stays, and log entries that were not there are new. The first one
// has no new ones: they are from before our time.
func (c Checkup) After(before Checkup) Checkup {
	c = c.Bounded()
	if c.Hardware.At.IsZero() {
		c.Hardware = before.Hardware
	}
	if before.At.IsZero() {
		return c
	}
	known := map[string]bool{}
	for _, e := range before.Log.Entries {
		known[e.key()] = e.New
	}
	for i, e := range c.Log.Entries {
		isNew, was := known[e.key()]
		c.Log.Entries[i].New = isNew || !was
	}
	return c
}

// key tells entries apart: after a log was cleared, numbers begin anew.
func (e LogEntry) key() string { return fmt.Sprint(e.ID, " ", e.At.Unix(), " ", e.Text) }

// Unanswered returns the checkup when the BMC was asked in vain.
func (c Checkup) Unanswered(now time.Time, why error) Checkup {
	c.Tried = now
	c.Failed++
	c.Error = CleanText(why.Error())
	return c
}

// Ill says in one line what is wrong with the machine, or "".
func (c Checkup) Ill() string {
	if !c.Health.Bad() {
		return ""
	}
	var parts []string
	for _, f := range c.Faults {
		parts = append(parts, strings.TrimSpace(f.Part+" "+cmp.Or(f.Detail, string(f.Health))))
	}
	const most = 4
	if more := len(parts) - most; more > 0 {
		parts = append(parts[:most], fmt.Sprintf("and %d more", more))
	}
	if len(parts) == 0 {
		return string(c.Health)
	}
	return CleanText(string(c.Health) + ": " + strings.Join(parts, ", "))
}

// Grave says in one line what the log has that is critical and new, or "".
func (c Checkup) Grave() string {
	var grave []LogEntry
	for _, e := range c.Log.Entries {
		if e.New && e.Health == HealthCritical {
			grave = append(grave, e)
		}
	}
	switch len(grave) {
	case 0:
		return ""
	case 1:
		return grave[0].Text
	}
	return CleanText(fmt.Sprintf("%d entries, the newest: %s", len(grave), grave[0].Text))
}

// CheckupCodes are of the findings that come of checkups.
func CheckupCodes() []string { return []string{CodeBMCHealth, CodeBMCLog, CodeBMCUnread} }

// blindAfter is how often in a row a BMC has to be silent before that is told:
// one that restarts is silent for a minute or two.
const blindAfter = 3

// Checked returns the BMC with what a checkup has found, in the place of what an
// earlier one did.
func (b BMC) Checked(c Checkup) BMC {
	b = b.WithoutFindings(CheckupCodes()...)
	if ill := c.Ill(); ill != "" {
		b = b.WithFinding(CodeBMCHealth, ill)
	}
	if grave := c.Grave(); grave != "" {
		b = b.WithFinding(CodeBMCLog, grave)
	}
	if c.Failed >= blindAfter {
		b = b.WithFinding(CodeBMCUnread, c.Error)
	}
	return b
}

// mostNews is how many log entries of one checkup become events.
const mostNews = 5

// News are what is worth an event, compared with the checkup before.
func (c Checkup) News(before Checkup) []string {
	var news []string
	switch {
	case c.At.IsZero() || c.Health == before.Health:
	case c.Health.Bad():
		news = append(news, "health: "+c.Ill())
	case before.Health.Bad():
		news = append(news, "health: "+cmp.Or(string(c.Health), "unknown")+" again")
	}
	known := map[string]bool{}
	for _, e := range before.Log.Entries {
		known[e.key()] = true
	}
	for _, e := range slices.Backward(c.Log.Entries) {
		if e.New && !known[e.key()] && e.Health == HealthCritical && len(news) < mostNews {
			news = append(news, "BMC log: "+e.Text)
		}
	}
	return news
}
