package access

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

func TestALimiterDoesNotGrowWithoutBound(t *testing.T) {
	l := newLimiter(10, 100)
	now := time.Now()
	for i := range 10_000 {
		l.begin(now.Add(time.Duration(i)), fmt.Sprintf("user %d", i), fmt.Sprintf("addr %d", i))
	}
	if got := len(l.failures); got > 100 {
		t.Errorf("it keeps %d keys, want at most 100", got)
	}
}

func TestALimiterKeepsTenTimesPerKey(t *testing.T) {
	l := newLimiter(10, 100)
	now := time.Now()
	for i := range 10_000 {
		l.begin(now.Add(time.Duration(i)), "user ada")
	}
	if got := len(l.failures["user ada"]); got != 10 {
		t.Errorf("it keeps %d times, want 10", got)
	}
}

func TestALimiterSaysHowLongToWait(t *testing.T) {
	l := newLimiter(2, 100)
	start := time.Now()
	l.begin(start, "a")
	undo, _ := l.begin(start.Add(10*time.Second), "a")
	if _, wait := l.begin(start.Add(20*time.Second), "a"); wait != 40*time.Second {
		t.Errorf("wait = %v, want 40s", wait)
	}
	undo()
	if _, wait := l.begin(start.Add(20*time.Second), "a"); wait != 0 {
		t.Errorf("after one was taken back: wait = %v, want none", wait)
	}
}

func TestWhoIsCountedAsOne(t *testing.T) {
	tests := map[string]struct {
		a, b string
		same bool
	}{
		"one address":                  {"10.0.0.1", "10.0.0.1", true},
		"one address, mapped":          {"10.0.0.1", "::ffff:10.0.0.1", true},
		"two addresses":                {"10.0.0.1", "10.0.0.2", false},
		"one IPv6 network":             {"2001:db8::1", "2001:db8::ffff:2", true},
		"two IPv6 networks":            {"2001:db8::1", "2001:db8:0:1::1", false},
		"one link-local, two networks": {"fe80::1%eth0", "fe80::1%eth1", true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := addrKey(netip.MustParseAddr(tt.a)) == addrKey(netip.MustParseAddr(tt.b)); got != tt.same {
				t.Errorf("%s and %s are one: %t, want %t", tt.a, tt.b, got, tt.same)
			}
		})
	}
}
