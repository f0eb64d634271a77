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

func TestAFloodOfScriptsIsNotRemembered(t *testing.T) {
	var s SlowLoaders
	now := time.Unix(1000, 0)
	a := netip.MustParseAddr("10.0.0.1")
	for range 2 * mostSlowers {
		s.Add(a, now)
		a = a.Next()
	}
	if len(s.seen) != mostSlowers {
		t.Errorf("%d are remembered, want %d", len(s.seen), mostSlowers)
	}
	s.Add(a, now.Add(time.Hour))
	if len(s.seen) != 1 {
		t.Errorf("%d are remembered an hour later, want the one that just came", len(s.seen))
	}
}
