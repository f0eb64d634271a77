package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/rackstage/provision/fleet"
)

func TestAnswersThatNobodyHearsAreAnAlarmAfterTheThirdInARow(t *testing.T) {
	type try struct {
		mac   fleet.MAC // "": somebody is heard
		after time.Duration
		want  bool
	}
	const a, b, c = fleet.MAC("52:54:00:00:00:0a"), fleet.MAC("52:54:00:00:00:0b"), fleet.MAC("52:54:00:00:00:0c")
	tests := map[string][]try{
		"one machine, each time that it boots": {{a, 0, false}, {a, time.Minute, false}, {a, time.Minute, true}, {a, 0, true}},
		"three machines of a rack":             {{a, 0, false}, {b, 0, false}, {c, 0, true}},
		"many requests at once in one name":    {{a, 0, false}, {a, 0, false}, {a, time.Second, false}, {a, 10 * time.Second, false}},
		"one hears us meanwhile":               {{a, 0, false}, {b, 0, false}, {"", 0, false}, {c, 0, false}, {a, 0, false}, {b, 0, true}},
	}
	for name, tries := range tests {
		t.Run(name, func(t *testing.T) {
			var u unheardTries
			now := time.Now()
			for i, tt := range tries {
				now = now.Add(tt.after)
				if tt.mac == "" {
					u.heard("rack")
					continue
				}
				if got := u.unheard("rack", tt.mac, now); got != tt.want {
					t.Errorf("after try %d: %t, want %t", i+1, got, tt.want)
				}
			}
			if u.unheard("other", a, now) {
				t.Error("what happens on one subnet is an alarm of another")
			}
		})
	}
}

func TestAFloodOfRequestsThatNobodyStandsByFillsNoMemory(t *testing.T) {
	var u unheardTries
	for i := range 1000 {
		u.unheard("rack", fleet.MAC(fmt.Sprint(i)), time.Now())
	}
	if n := len(u.in["rack"]); n != unheardOften {
		t.Errorf("%d tries are remembered, want %d", n, unheardOften)
	}
}
