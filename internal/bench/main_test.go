package main

import "testing"

func TestValuesStandBeforeTheirUnit(t *testing.T) {
	out := []byte("goos: linux\nBenchmarkX-2   100   250.5 ns/op   12 rows/s\nBenchmarkX-2   100   260 ns/op   13 rows/s\nPASS\n")
	got := values(out, "Benchmark", "rows/s")
	if len(got) != 2 || got[0] != 12 || got[1] != 13 {
		t.Errorf("values = %v, want [12 13]", got)
	}
}
