package bmc

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/rackstage/provision/fleet"
)

// A text is one of a BMC's, cleaned and cut. Where the BMC has something else
// than a text it is empty: one wrong field does not lose the rest.
type text string

// UnmarshalJSON implements json.Unmarshaler.
func (t *text) UnmarshalJSON(raw []byte) error {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		*t = text(fleet.CleanText(s))
	}
	return nil
}

// A phrase is a text of a BMC as it is, for who veils it: "" where it has something
// else than a text.
type phrase string

// UnmarshalJSON implements json.Unmarshaler.
func (p *phrase) UnmarshalJSON(raw []byte) error {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		*p = phrase(s)
	}
	return nil
}

// A number is one of a BMC's, 0 where it has none. Some write numbers as text.
type number float64

const largestNumber = 1e12 // nothing that is measured is larger

// UnmarshalJSON implements json.Unmarshaler.
func (n *number) UnmarshalJSON(raw []byte) error {
	f, err := strconv.ParseFloat(strings.Trim(string(raw), `" `), 64)
	if err == nil && f > -largestNumber && f < largestNumber {
		*n = number(f)
	}
	return nil
}

// A known number is one that tells 0 from none.
type known struct {
	value number
	is    bool
}

// UnmarshalJSON implements json.Unmarshaler.
func (k *known) UnmarshalJSON(raw []byte) error {
	_, err := strconv.ParseFloat(strings.Trim(string(raw), `" `), 64)
	k.is = err == nil
	return k.value.UnmarshalJSON(raw)
}

// A condition is Redfish's Status.
type condition struct {
	State        text
	Health       text
	HealthRollup text
}

// absent reports whether the part is not there at all.
func (c condition) absent() bool { return c.State == "Absent" || c.State == "Disabled" }

func (c condition) health() fleet.Health {
	return healthOf(string(c.Health)).Worse(healthOf(string(c.HealthRollup)))
}

// healthOf reads what services call it.
func healthOf(word string) fleet.Health {
	switch strings.ToLower(word) {
	case "ok", "informational", "info":
		return fleet.HealthOK
	case "warning", "degraded", "non-fatal":
		return fleet.HealthWarning
	case "critical", "fatal", "error":
		return fleet.HealthCritical
	}
	return fleet.HealthUnknown
}

// timeOf reads a time of a service; zero when it is none.
func timeOf(t text) time.Time {
	at, err := time.Parse(time.RFC3339, string(t))
	if err != nil {
		return time.Time{}
	}
	return at.UTC()
}
