package bmc

import (
	"testing"
	"time"

	"github.com/rackstage/provision/fleet"
)

func TestABMCThatAnswersSlowlyIsAWarning(t *testing.T) {
	k := &checkup{}
	for d, want := range map[time.Duration]fleet.BMCGrade{slowAnswer: fleet.BMCOK, slowAnswer + 1: fleet.BMCWarning} {
		if got := k.speed(d).grade; got != want {
			t.Errorf("%s is %s, want %s", d, got, want)
		}
	}
}
