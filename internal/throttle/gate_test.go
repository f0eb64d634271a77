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

// Keys share slots: of ten thousand machines some have one with a machine that
// floods us.
func TestNobodyIsHeldBackForWhatOthersSend(t *testing.T) {
	g := throttle.NewGate[int](10, time.Second)
	at := time.Hour
	for range 100 {
		for flooder := range 100 {
			g.Allow(-1-flooder, at)
		}
	}
	for quiet := range 10_000 {
		if !g.Allow(quiet, at) {
			t.Errorf("machine %d is not heard, because others flood us", quiet)
		}
	}
}

// Somebody makes up keys: most others are heard all the same.
func TestMadeUpKeysHoldBackFew(t *testing.T) {
	g := throttle.NewGate[int](10, time.Second)
	at, key := time.Hour, 0
	for range 60 * 40_000 {
		key++
		g.Allow(key, at)
		at += time.Second / 40_000
	}
	held := 0
	for good := range 1000 {
		if !g.Allow(-1-good, at) {
			held++
		}
	}
	if held > 10 {
		t.Errorf("%d of 1000 are not heard", held)
	}
}

func BenchmarkAGate(b *testing.B) {
	g := throttle.NewGate[[6]byte](10, time.Second)
	at := time.Hour
	for i := 0; b.Loop(); i++ {
		g.Allow([6]byte{byte(i), byte(i >> 8), byte(i >> 16)}, at)
		at += time.Microsecond
	}
}
