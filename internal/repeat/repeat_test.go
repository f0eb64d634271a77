package repeat_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rackstage/provision/internal/repeat"
)

func TestWorkIsDoneOnceAnIntervalUntilTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute+time.Second)
		defer cancel()
		times := 0
		if repeat.Every(ctx, 10*time.Second, func() { times++ }); times != 6 {
			t.Errorf("done %d times in a minute, want 6", times)
		}
	})
}
