package throttle_test

import (
	"testing"
	"time"

	"github.com/rackstage/provision/internal/throttle"
)

func TestAGateHoldsBackWhoFloodsAndNobodyElse(t *testing.T) {
	g := throttle.NewGate[[6]byte](10, time.Second)
	flood, other := [6]byte{1}, [6]byte{2}
	at, heard := time.Hour, 0
	for range 1000 {
		if g.Allow(flood, at) {
			heard++
		}
		at += 10 * time.Millisecond
	}
	if heard < 18 || heard > 21 {
		t.Errorf("%d of 1000 packets in 10 s are heard, want 10 and one a second", heard)
	}
	if !g.Allow(other, at) || !g.Allow(flood, at+time.Second) {
		t.Error("others, or who was silent for a while, are not heard")
	}
	if n := testing.AllocsPerRun(100, func() { g.Allow(other, at) }); n != 0 {
		t.Errorf("%v allocations for a packet, want none", n)
	}
}
