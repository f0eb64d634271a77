package http

import (
	"encoding/json"
	"strings"
	"testing"
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
