package store_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rackstage/provision/fleet"
)

func TestTheNewestCheckupOfANodeIsKept(t *testing.T) {
	s, _ := fresh(t)
	one := fleet.Checkup{Node: "n-1", At: when, Health: fleet.HealthOK, Sensors: []fleet.Sensor{{Name: "Inlet", Value: 23.5}}}
	two := fleet.Checkup{Node: "n-2", At: when, Log: fleet.EventLog{Entries: []fleet.LogEntry{{ID: "1", At: when, Text: "x", New: true}}}}
	must(t, s.SaveCheckup(t.Context(), two))
	must(t, s.SaveCheckup(t.Context(), fleet.Checkup{Node: "n-1"}))
	must(t, s.SaveCheckup(t.Context(), one))
	got, err := s.Checkups(t.Context())
	must(t, err)
	if diff := cmp.Diff([]fleet.Checkup{one, two}, got); diff != "" {
		t.Errorf("checkups (-want +got):\n%s", diff)
	}
}
