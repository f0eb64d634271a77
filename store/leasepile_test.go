package store

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// stopMerging lets a test decide when journals are merged.
func stopMerging(s *Store) {
	s.leases.stop()
	<-s.leases.done
}

// While leases come fast, journals wait until the pile is high, and then only
// as many are merged as come.
func TestJournalsPileUpWhileLeasesComeFast(t *testing.T) {
	s := openFresh(t)
	stopMerging(s)
	s.leases.limit = 2 * journalBlock
	p := pace{at: time.Now(), busy: true}
	high := 0
	for i := range 60 {
		churn(t, s, i, i+1)
		if _, err := s.leases.mergeDue(t.Context(), &p); err != nil {
			t.Fatal(err)
		}
		high = max(high, len(s.leases.journals)-1)
	}
	if high != pile-1 {
		t.Errorf("%d journals waited, want %d", high, pile-1)
	}
	if diff := cmp.Diff(wanted(t, 60), leasesOf(t, s), byValue); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestThePileIsMergedWhenItIsCalm(t *testing.T) {
	s := openFresh(t)
	stopMerging(s)
	s.leases.limit = 2 * journalBlock
	churn(t, s, 0, 5)
	looks := 0
	for p := (pace{at: time.Now(), busy: true}); len(s.leases.journals) > 1; looks++ {
		p.at, p.stored = p.at.Add(-2*time.Second), s.leases.stored // two seconds pass, in which nobody comes
		waiting, err := s.leases.mergeDue(t.Context(), &p)
		if err != nil || !waiting {
			t.Fatalf("mergeDue = %v, %v with %d journals", waiting, err, len(s.leases.journals))
		}
	}
	if looks == 0 {
		t.Error("there was no pile")
	}
	if diff := cmp.Diff(wanted(t, 5), leasesOf(t, s), byValue); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestPace(t *testing.T) {
	start := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	tests := map[string]struct {
		was    bool
		after  time.Duration
		stored int
		want   bool
	}{
		"too soon to say, it was busy":  {true, 999 * time.Millisecond, 0, true},
		"too soon to say, it was calm":  {false, 999 * time.Millisecond, 1 << 20, false},
		"nobody came":                   {true, time.Second, 0, false},
		"a few came":                    {true, 2 * time.Second, 2 * calm, false},
		"many came":                     {false, 2 * time.Second, 2*calm + 1, true},
		"how it is now nobody can tell": {false, time.Hour, 0, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := pace{at: start, stored: 1000, busy: tt.was}
			if got := p.busyAt(start.Add(tt.after), 1000+tt.stored); got != tt.want {
				t.Errorf("busyAt = %v, want %v", got, tt.want)
			}
		})
	}
}

// Nobody has to say when: a pile that was left goes into the table by itself.
func TestWhatWaitsIsMergedByItself(t *testing.T) {
	s := openFresh(t)
	s.leases.limit = 2 * journalBlock
	churn(t, s, 0, 5)
	s.leases.mu.Lock()
	defer s.leases.mu.Unlock()
	for len(s.leases.journals) > 1 { // the end of each merging is told
		s.leases.room.Wait()
	}
}
