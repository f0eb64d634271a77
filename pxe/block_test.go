package pxe

import (
	"fmt"
	"testing"
	"time"

	"github.com/rackstage/provision/fleet"
)

func TestSmallBlocksAreForTheMachineAtOnceAndNotForEver(t *testing.T) {
	start := time.Date(2026, 11, 2, 3, 0, 0, 0, time.UTC)
	model := fleet.Quirk{Vendor: "Acme", Product: "R1"}
	own := fleet.Quirk{MACPrefix: "52:54:00:00:00:01"}
	tests := map[string]struct {
		of     fleet.Quirk
		stalls []int // machine by machine, an hour apart
		after  time.Duration
		want   int
	}{
		"a machine of its own":          {own, []int{1}, 0, SmallBlock},
		"it, a month later":             {own, []int{1}, 30 * 24 * time.Hour, 0},
		"a model, of one machine":       {model, []int{1}, 0, 0},
		"of one machine, twice":         {model, []int{1, 1}, 0, 0},
		"of two":                        {model, []int{1, 2}, 0, SmallBlock},
		"of two, the first a month ago": {model, []int{1, 2}, 30*24*time.Hour - time.Hour, 0},
		"of many":                       {model, []int{1, 2, 3, 4, 5}, 0, SmallBlock},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l, at := fleet.Lesson{Model: tt.of}, start
			for i, machine := range tt.stalls {
				at = start.Add(time.Duration(i) * time.Hour)
				before := BlockOf(l, at)
				var news bool
				if l, news = Stalled(l, fleet.BootMark{MAC: fleet.MAC(fmt.Sprintf("52:54:00:00:00:%02x", machine)), At: at}); news != (before != BlockOf(l, at)) {
					t.Errorf("news after %d stalls: %t", i+1, news)
				}
			}
			if got := BlockOf(l, at.Add(tt.after)); got != tt.want || len(l.Stalls) > stallsOfModel {
				t.Errorf("blocks of %d, want %d; %d stalls are kept", got, tt.want, len(l.Stalls))
			}
		})
	}
}
