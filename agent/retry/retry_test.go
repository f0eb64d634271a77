package retry

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestDelaysGrowAndStayBounded(t *testing.T) {
	var d Delay
	for i := range 40 {
		got := d.Next()
		high := min(first<<min(i, 10), last)
		if got < high/2 || got > high {
			t.Errorf("delay %d = %v, want %v to %v", i, got, high/2, high)
		}
	}
	d.Reset()
	if got := d.Next(); got > first {
		t.Errorf("first delay after Reset = %v, want at most %v", got, first)
	}
}

func TestPauseEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := Pause(ctx, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Pause = %v, want %v", err, context.DeadlineExceeded)
		}
		if err := Pause(t.Context(), time.Hour); err != nil {
			t.Errorf("Pause = %v, want nil after an hour", err)
		}
	})
}
