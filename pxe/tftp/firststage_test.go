package tftp

import (
	"net/netip"
	"testing"
	"time"
)

func TestKernelsGoByTFTPOnlyToLoadersWithoutHTTP(t *testing.T) {
	var s SlowLoaders
	now := time.Unix(1000, 0)
	old, other := netip.MustParseAddr("10.0.0.7"), netip.MustParseAddr("10.0.0.8")
	s.Add(old, now)
	tests := map[string]struct {
		client netip.Addr
		size   int64
		after  time.Duration
		want   bool
	}{
		"a loader, to anybody":              {other, 1 << 20, 0, true},
		"a ramdisk, to anybody":             {other, 40 << 20, 0, false},
		"a ramdisk, to GRUB without HTTP":   {old, 40 << 20, time.Minute, true},
		"a ramdisk, when that was long ago": {old, 40 << 20, time.Hour, false},
	}
	for name, tt := range tests {
		if got := s.May(tt.client, tt.size, now.Add(tt.after)); got != tt.want {
			t.Errorf("%s: %t, want %t", name, got, tt.want)
		}
	}
}

// A real machine asked for its script, and fetched it; a crowd of made-up ones
// only asks.
func TestAFloodOfScriptsPushesNoRealMachineOut(t *testing.T) {
	var s SlowLoaders
	now := time.Unix(1000, 0)
	node := netip.MustParseAddr("10.9.0.1")
	s.Add(node, now)
	s.Done(Transfer{Client: netip.AddrPortFrom(node, 2000), Proved: true})
	flood := func() {
		a := netip.MustParseAddr("10.0.0.1")
		for range 3 * mostAsked {
			s.Add(a, now)
			s.Done(Transfer{Client: netip.AddrPortFrom(a, 2000), Err: ErrUnheard})
			a = a.Next()
		}
	}
	flood()
	if !s.May(node, 40<<20, now) {
		t.Error("the machine gets no kernel after a flood")
	}
	if a, p := len(s.asked.at), len(s.proved.at); a != mostAsked || p != 1 || s.asked.order.Len() != a {
		t.Errorf("%d that asked and %d others are remembered, want %d and 1", a, p, mostAsked)
	}
	// It asks for the next script, and others go on; one more is new.
	s.Add(node, now.Add(time.Minute))
	flood()
	late := netip.MustParseAddr("10.9.0.2")
	s.Add(late, now.Add(time.Minute))
	if !s.May(node, 40<<20, now.Add(15*time.Minute)) || !s.May(late, 40<<20, now.Add(time.Minute)) {
		t.Error("a machine that asks in the middle of a flood gets no kernel")
	}
	if s.May(node, 40<<20, now.Add(17*time.Minute)) {
		t.Error("it is remembered for longer than 15 minutes")
	}
}

func TestWhatIsRememberedOfMachinesIsBounded(t *testing.T) {
	var s SlowLoaders
	now := time.Unix(1000, 0)
	a := netip.MustParseAddr("10.0.0.1")
	for range mostProved + 10 {
		s.Add(a, now)
		s.Done(Transfer{Client: netip.AddrPortFrom(a, 2000), Proved: true})
		a = a.Next()
	}
	if n := len(s.proved.at); n != mostProved || len(s.asked.at) != 0 {
		t.Errorf("%d and %d are remembered, want %d and 0", n, len(s.asked.at), mostProved)
	}
}
