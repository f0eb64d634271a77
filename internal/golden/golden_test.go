package golden_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rackstage/provision/internal/golden"
)

// A verdict is a test that keeps what is said of it to itself.
type verdict struct {
	testing.TB
	failed bool
}

func (v *verdict) Helper()               {}
func (v *verdict) Errorf(string, ...any) { v.failed = true }

func TestATextIsWhatWasReviewedOrTheTestFails(t *testing.T) {
	name := filepath.Join(t.TempDir(), "reviewed.txt")
	if err := os.WriteFile(name, []byte("one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for got, fails := range map[string]bool{"one\n": false, "one": true, "two\n": true} {
		v := &verdict{TB: t}
		if golden.Check(v, name, got); v.failed != fails {
			t.Errorf("%q fails: %t, want %t", got, v.failed, fails)
		}
	}
}
