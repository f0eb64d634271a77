package fleet_test

import (
	"errors"
	"testing"
	"time"

	"github.com/rackstage/provision/fleet"
)

func TestOnlyWhatTheLogGotWhileWeWatchedIsNew(t *testing.T) {
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	entry := func(id string, h fleet.Health) fleet.LogEntry {
		return fleet.LogEntry{ID: id, At: at, Health: h, Text: "entry " + id}
	}
	checkup := func(entries ...fleet.LogEntry) fleet.Checkup {
		return fleet.Checkup{At: at, Log: fleet.EventLog{Entries: entries}}
	}
	first := checkup(entry("1", fleet.HealthCritical)).After(fleet.Checkup{})
	if first.Grave() != "" {
		t.Errorf("what was there before us is told: %q", first.Grave())
	}
	second := checkup(entry("1", fleet.HealthCritical), entry("2", fleet.HealthCritical)).After(first)
	if second.Grave() != "entry 2" {
		t.Errorf("a new entry: %q, want entry 2", second.Grave())
	}
	third := checkup(entry("1", fleet.HealthCritical), entry("2", fleet.HealthCritical), entry("3", fleet.HealthOK)).After(second)
	if third.Grave() != "entry 2" {
		t.Errorf("it stands until the log is cleared: %q", third.Grave())
	}
	if cleared := checkup(entry("1", fleet.HealthOK)).After(third); cleared.Grave() != "" {
		t.Errorf("after clearing: %q", cleared.Grave())
	}
}

func TestFindingsOfACheckupTakeThePlaceOfThoseBefore(t *testing.T) {
	other := fleet.BMC{}.WithFinding(fleet.CodeBMCCipherZero, "it opens")
	ill := fleet.Checkup{Health: fleet.HealthCritical, Faults: []fleet.Fault{{Part: "Fan1", Health: fleet.HealthCritical, Detail: "stopped"}}}
	silent := fleet.Checkup{}
	for range 3 {
		silent = silent.Unanswered(time.Unix(1, 0), errors.New("no answer"))
	}
	tests := map[string]struct {
		checkup fleet.Checkup
		want    string
	}{
		"a machine that is well": {fleet.Checkup{Health: fleet.HealthOK}, ""},
		"a broken fan":           {ill, "E-BMC-HEALTH critical: Fan1 stopped"},
		"a BMC that is silent":   {silent, "E-BMC-UNREAD no answer"},
		"silent once":            {fleet.Checkup{}.Unanswered(time.Unix(1, 0), errors.New("no answer")), ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := other.WithFinding(fleet.CodeBMCHealth, "from before").Checked(tt.checkup)
			got := ""
			if n := len(b.Findings); n > 1 {
				got = b.Findings[1].Code + " " + b.Findings[1].Detail
			}
			if b.Findings[0].Code != fleet.CodeBMCCipherZero || got != tt.want {
				t.Errorf("findings %+v, want %q after cipher zero", b.Findings, tt.want)
			}
		})
	}
}
