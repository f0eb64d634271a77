// Package repeat does things again and again.
package repeat

import (
	"context"
	"time"
)

// Every does work each time that an interval has passed, until ctx is done.
func Every(ctx context.Context, interval time.Duration, work func()) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			work()
		}
	}
}
