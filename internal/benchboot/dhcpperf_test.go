package main

import (
	"syscall"
	"testing"
	"time"
)

// What perfdhcp reports is read as it says it: exchanges of a server that
// answers, and what one drops that does not.
func TestPerfdhcpCountsWhatTheServerDoesAndDrops(t *testing.T) {
	d := newDrill(t, t.TempDir())
	const rate, least = 200, 100
	r, err := d.l.perfdhcp(t.Context(), d.p, rate, time.Second)
	if err != nil {
		t.Fatalf("%v (make test unpacks the peers)", err)
	}
	t.Log(r)
	if got := d.counted("provision_dhcp_acks_total"); r.acked < least || r.begun-r.acked != r.dropped || got < int64(r.acked) || r.cpu <= 0 {
		t.Errorf("%+v, while the server counts %d ACKs", r, got)
	}
	for _, pid := range pidsOf(t, d.p) {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	if r, err = d.l.perfdhcp(t.Context(), d.p, rate, time.Second); err != nil || r.begun < least || r.acked != 0 || r.dropped != r.begun {
		t.Errorf("of a server that is stopped: %+v, %v; want all of it dropped", r, err)
	}
}

// counted returns one counter of the program.
func (d *drill) counted(name string) int64 {
	d.Helper()
	all, err := d.api().Counters(d.Context())
	if err != nil {
		d.Fatal(err)
	}
	return all[name]
}
