package agent

import "testing"

func TestAMachineOfManyProcessorsHoldsFewConnections(t *testing.T) {
	for cpus, want := range map[int]int{1: 3, 4: 6, 6: 8, 64: 8, 512: 8} {
		if got := workersFor(cpus); got != want {
			t.Errorf("%d processors: %d workers, want %d", cpus, got, want)
		}
	}
}
