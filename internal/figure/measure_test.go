package figure

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestOneSectionThatFailsKeepsWhatItHasAndStopsNoOther(t *testing.T) {
	broken := errors.New("the server is away")
	section := func(name string, err error) Section {
		return Section{name, func(context.Context) ([]Figure, error) {
			return []Figure{{Name: name, Unit: "s", Rounds: []float64{1}}}, err
		}}
	}
	var out, log strings.Builder
	all, err := Measure(t.Context(), []Section{section("first", broken), section("second", nil)}, &out, &log)
	if len(all) != 2 || !errors.Is(err, broken) || !strings.Contains(err.Error(), "first: ") {
		t.Errorf("Measure = %v, %v, want both figures and the error of the first", all, err)
	}
	if want := "FIGURE first 1 s - - aim - OK\nFIGURE second 1 s - - aim - OK\n"; out.String() != want {
		t.Errorf("printed %q, want %q", out.String(), want)
	}
	if want := "# first failed: the server is away\n# first took 0s\n# second took 0s\n"; log.String() != want {
		t.Errorf("said %q, want %q", log.String(), want)
	}
}

func TestWhatIsChosenHasToExist(t *testing.T) {
	names := []string{"dhcp", "tftp", "http"}
	tests := map[string]struct {
		list string
		want []string // nil: an error
	}{
		"nothing is all":   {"", names},
		"one":              {"tftp", []string{"tftp"}},
		"two":              {"http,dhcp", []string{"http", "dhcp"}},
		"one that is none": {"dhcp,nfs", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Choose(tt.list, names)
			if !slices.Equal(got, tt.want) || (err == nil) != (tt.want != nil) {
				t.Errorf("Choose(%q) = %q, %v, want %q", tt.list, got, err, tt.want)
			}
		})
	}
}
