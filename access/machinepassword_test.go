package access

import (
	"regexp"
	"strings"
	"testing"
)

func TestMachinesGetPasswordsThatTheyTake(t *testing.T) {
	tests := map[int]struct {
		shape   string
		special bool
	}{
		0: {`^[A-Za-z][A-Za-z0-9]{15}$`, false},
		1: {`^[A-Za-z][A-Za-z0-9._+=-]{15}$`, true},
		2: {`^[A-Za-z][A-Za-z0-9._+=-]{11}$`, true},
	}
	for shape, tt := range tests {
		seen := map[string]bool{}
		for range 2000 {
			p := MachinePassword(shape)
			if !regexp.MustCompile(tt.shape).MatchString(p) || !hasEach(p, []string{uppers, lowers, digits}) || strings.ContainsAny(p, specials) != tt.special {
				t.Fatalf("shape %d: %q", shape, p)
			}
			if seen[p] {
				t.Fatalf("shape %d: %q came twice", shape, p)
			}
			seen[p] = true
		}
	}
	if p := MachinePassword(len(passwordShapes)); p != "" {
		t.Errorf("there is another shape: %q", p)
	}
}

func TestEachCharacterIsAsLikely(t *testing.T) {
	count := map[byte]int{}
	const times = 24000
	for range times {
		count[pick(uppers)]++
	}
	for _, c := range []byte(uppers) {
		if want := times / len(uppers); count[c] < want/2 || count[c] > want*2 {
			t.Errorf("%c came %d times of %d, want about %d", c, count[c], times, want)
		}
	}
}
