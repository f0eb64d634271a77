// Package golden compares what a test made with a file that somebody has
// reviewed. `go test -update` writes the files anew: review the difference.
package golden

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// Updating reports whether the files are to be written anew.
func Updating() bool { return *update }

// Check compares a text with that of a file.
func Check(tb testing.TB, name, got string) {
	tb.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil { //nolint:gosec // of the source tree
			tb.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil { //nolint:gosec // likewise
			tb.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		tb.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		tb.Errorf("%s is another (go test -update, then review it; -want +got):\n%s", name, diff)
	}
}
