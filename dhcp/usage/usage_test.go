package usage

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/rackstage/provision/dhcp/alarm"
	"github.com/rackstage/provision/fleet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// notes is the alarms that were raised and cleared.
type notes []string

func (n *notes) Raise(code, on, detail string) { *n = append(*n, "raise "+code+" "+on+": "+detail) }
func (n *notes) Clear(code, on string)         { *n = append(*n, "clear "+code+" "+on) }

func TestAForecastIsMadeOfTheLastHour(t *testing.T) {
	tests := map[string]struct {
		samples []int
		now     Use
		want    string
	}{
		"just started":         {nil, Use{Size: 100, Used: 90}, "90 of 100 addresses are in use (90 %), and no more than an hour ago"},
		"nothing comes":        {[]int{90, 90, 90}, Use{Size: 100, Used: 90}, "90 of 100 addresses are in use (90 %), and no more than an hour ago"},
		"some leave":           {[]int{95, 90}, Use{Size: 100, Used: 90}, "90 of 100 addresses are in use (90 %), and no more than an hour ago"},
		"one a minute":         {[]int{85, 86, 87, 88, 89, 90}, Use{Size: 100, Used: 90}, "90 of 100 addresses are in use (90 %), full in 10 minutes at the rate of the last hour"},
		"with some in arrest":  {[]int{85, 86, 87, 88, 89, 90}, Use{Size: 100, Used: 90, Declined: 5}, "95 of 100 addresses are in use (95 %), full in 5 minutes at the rate of the last hour"},
		"soon":                 {[]int{40, 99}, Use{Size: 100, Used: 99}, "99 of 100 addresses are in use (99 %), full in a minute at the rate of the last hour"},
		"slowly":               {slices.Repeat([]int{890}, 61), Use{Size: 1000, Used: 900}, "900 of 1000 addresses are in use (90 %), full in 10 hours at the rate of the last hour"},
		"very slowly":          {slices.Repeat([]int{899}, 61), Use{Size: 1000, Used: 900}, "900 of 1000 addresses are in use (90 %), full in 4 days at the rate of the last hour"},
		"what was long before": {append([]int{0}, slices.Repeat([]int{90}, 61)...), Use{Size: 100, Used: 90}, "90 of 100 addresses are in use (90 %), and no more than an hour ago"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var h History
			for _, used := range tt.samples {
				h.Add(used)
			}
			if h.Forecast(&tt.now); tt.now.forecast() != tt.want {
				t.Errorf("forecast %q, want %q", tt.now.forecast(), tt.want)
			}
		})
	}
}

func TestAnAlarmDoesNotComeAndGoWithEachLease(t *testing.T) {
	told := &notes{}
	board := alarm.New(told, time.Now, time.Hour)
	for _, used := range []int{79, 80, 79, 80, 75, 74, 0} {
		Check(board, []Use{{Subnet: "rack", Class: "phones", Size: 100, Used: used}})
	}
	want := []string{
		"raise " + fleet.CodePoolForecast + " subnet rack, class phones: 80 of 100 addresses are in use (80 %), and no more than an hour ago",
		"clear " + fleet.CodePoolForecast + " subnet rack, class phones",
	}
	if !slices.Equal(*told, want) {
		t.Errorf("told %q, want %q", *told, want)
	}
}

func TestASampleIsTakenOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute+time.Second)
		defer cancel()
		checks, samples := 0, 0
		Watch(ctx, alarm.New(&notes{}, time.Now, time.Minute), func(sample bool) []Use {
			checks++
			if sample {
				samples++
			}
			return nil
		})
		if checks != 18 || samples != 3 {
			t.Errorf("%d checks and %d samples in three minutes, want 18 and 3", checks, samples)
		}
	})
}
