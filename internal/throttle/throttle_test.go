package throttle

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

func TestAThrottleAllowsABurstAndThenARate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := New[netip.Addr](1<<16, 3, 1, time.Now)
		a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
		for i := range 3 {
			if !th.Allow(a) {
				t.Fatalf("act %d of the burst was refused", i+1)
			}
		}
		if th.Allow(a) {
			t.Error("an act beyond the burst was allowed")
		}
		if !th.Allow(b) {
			t.Error("another address was refused")
		}
		<-time.After(time.Second)
		if !th.Allow(a) || th.Allow(a) {
			t.Error("after a second one act is allowed, not none and not two")
		}
	})
}

func TestAThrottleRemembersABoundedNumberOfAddresses(t *testing.T) {
	now := time.Unix(0, 0)
	th := New[netip.Addr](10, 1, 1, func() time.Time { return now })
	addr := netip.MustParseAddr("10.0.0.0")
	for range 1000 {
		addr = addr.Next()
		th.Allow(addr)
	}
	if len(th.buckets) > th.size+1 {
		t.Errorf("%d addresses remembered, want %d at most", len(th.buckets), th.size+1)
	}
	now = now.Add(time.Minute)
	if !th.Allow(addr.Next()) {
		t.Error("a minute later a new address was refused")
	}
}
