package http

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestDepthOfJSON(t *testing.T) {
	tests := map[string]struct {
		body string
		ok   bool
	}{
		"as deep as allowed":            {strings.Repeat("[", 25) + strings.Repeat("]", 25), true},
		"one too deep":                  {strings.Repeat("[", 26) + strings.Repeat("]", 26), false},
		"objects count as well":         {strings.Repeat(`{"a":`, 26) + "1" + strings.Repeat("}", 26), false},
		"siblings do not add up":        {"[" + strings.Repeat("[],", 100) + "[]]", true},
		"brackets in a string":          {`["` + strings.Repeat("[", 100) + `"]`, true},
		"an escaped quote in a string":  {`["\"` + strings.Repeat("[", 100) + `"]`, true},
		"an escaped backslash at end":   {`["\\",` + strings.Repeat("[", 25) + strings.Repeat("]", 25) + `]`, false},
		"nonsense is for others to see": {`}}}{{`, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if err := checkDepth([]byte(tt.body), 25); (err == nil) != tt.ok {
				t.Errorf("checkDepth = %v, want ok = %v", err, tt.ok)
			}
		})
	}
}

// FuzzDepth compares with the depth of what the standard library reads.
func FuzzDepth(f *testing.F) {
	for _, s := range []string{`{"a":[1,"]",{"b\"":"\\"}]}`, `[[[[]]]]`, `"{"`, `{"":{}}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		var v any
		if json.Unmarshal([]byte(body), &v) != nil {
			return
		}
		// Deeper can be let through never; shallower may be refused, when a
		// key that stands twice hides what was deep.
		if depthOf(v) > 3 && checkDepth([]byte(body), 3) == nil {
			t.Errorf("checkDepth lets %q through, which is %d deep", body, depthOf(v))
		}
	})
}

func depthOf(v any) int {
	deepest := 0
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			deepest = max(deepest, depthOf(e))
		}
	case map[string]any:
		for _, e := range v {
			deepest = max(deepest, depthOf(e))
		}
	default:
		return 0
	}
	return deepest + 1
}

func TestThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := newThrottle(3, 1, time.Now)
		a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
		for i := range 3 {
			if !th.allow(a) {
				t.Fatalf("act %d of the burst was refused", i+1)
			}
		}
		if th.allow(a) {
			t.Error("an act beyond the burst was allowed")
		}
		if !th.allow(b) {
			t.Error("another address was refused")
		}
		<-time.After(time.Second)
		if !th.allow(a) || th.allow(a) {
			t.Error("after a second one act is allowed, not none and not two")
		}
	})
}

func TestAThrottleRemembersABoundedNumberOfAddresses(t *testing.T) {
	now := time.Unix(0, 0)
	th := newThrottle(1, 1, func() time.Time { return now })
	th.size = 10
	addr := netip.MustParseAddr("10.0.0.0")
	for range 1000 {
		addr = addr.Next()
		th.allow(addr)
	}
	if len(th.buckets) > th.size+1 {
		t.Errorf("%d addresses remembered, want %d at most", len(th.buckets), th.size+1)
	}
	now = now.Add(time.Minute)
	if !th.allow(addr.Next()) {
		t.Error("a minute later a new address was refused")
	}
}
