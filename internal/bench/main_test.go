package main

import "testing"

func TestValuesStandBeforeTheirUnit(t *testing.T) {
	out := []byte("goos: linux\nBenchmarkX-2   100   250.5 ns/op   12 rows/s\nBenchmarkX-2   100   260 ns/op   13 rows/s\nPASS\n")
	got := values(out, "Benchmark", "rows/s")
	if len(got) != 2 || got[0] != 12 || got[1] != 13 {
		t.Errorf("values = %v, want [12 13]", got)
	}
}

func TestAFigureSaysWhetherItsAimIsReached(t *testing.T) {
	tests := map[string]struct {
		figure figure
		want   string
	}{
		"below an upper limit": {figure{"size", "MiB", "<=36", []float64{30, 20, 25}}, "FIGURE size 25 MiB - - aim <=36 OK"},
		"above an upper limit": {figure{"size", "MiB", "<=36", []float64{40}}, "FIGURE size 40 MiB - - aim <=36 SHORT"},
		"below a lower limit":  {figure{"rate", "rows/s", ">=10", []float64{9}}, "FIGURE rate 9 rows/s - - aim >=10 SHORT"},
		"no aim":               {figure{"x", "s", "", []float64{1}}, "FIGURE x 1 s - - aim - OK"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := tt.figure.String(); got != tt.want {
				t.Errorf("line = %q, want %q", got, tt.want)
			}
		})
	}
}
