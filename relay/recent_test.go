package relay

import (
	"testing"
	"time"
)

func TestWhoAskedLatelyIsKnownAndNobodyElse(t *testing.T) {
	now := time.Unix(1000, 0)
	r := newRecent[int](func() time.Time { return now })
	r.add(1)
	for _, tt := range []struct {
		later time.Duration
		want  bool
	}{{0, true}, {answerTime - time.Second, true}, {time.Second, true}, {2 * answerTime, false}} {
		now = now.Add(tt.later)
		if r.has(1) != tt.want || r.has(2) {
			t.Errorf("at %s: has(1) = %v, want %v; has(2) = %v", now.UTC().Format(time.TimeOnly), r.has(1), tt.want, r.has(2))
		}
	}
	r.add(1)
	for i := range maxRecent { // others, each once
		r.add(10 + i)
	}
	if !r.has(1) {
		t.Error("who asked last is forgotten for others who asked since")
	}
	for i := range 10 * maxRecent {
		r.add(10 + i)
	}
	if n := len(r.newer) + len(r.old); n > 2*maxRecent {
		t.Errorf("%d are remembered, want %d at most", n, 2*maxRecent)
	}
}
