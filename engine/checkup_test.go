package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rackstage/provision/fleet"
)

// A ward is BMCs that are asked how their machines are, and a store of what
// they say.
type ward struct {
	mu     sync.Mutex
	asked  map[fleet.NodeID][]time.Time
	whole  map[fleet.NodeID]int // of those, for everything
	now    int                  // asked just now
	peak   int
	answer func(n fleet.Node, asked int) (fleet.Checkup, error)
	kept   map[fleet.NodeID]fleet.Checkup
}

func newWard(answer func(n fleet.Node, asked int) (fleet.Checkup, error)) *ward {
	return &ward{asked: map[fleet.NodeID][]time.Time{}, whole: map[fleet.NodeID]int{}, kept: map[fleet.NodeID]fleet.Checkup{}, answer: answer}
}

// Examine implements Examiner.
func (w *ward) Examine(_ context.Context, n fleet.Node, all bool) (fleet.Checkup, error) {
	w.mu.Lock()
	w.asked[n.ID] = append(w.asked[n.ID], time.Now())
	if all {
		w.whole[n.ID]++
	}
	times := len(w.asked[n.ID])
	w.now++
	w.peak = max(w.peak, w.now)
	w.mu.Unlock()
	time.Sleep(5 * time.Second) //nolint:forbidigo // fake time: synctest
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now--
	c, err := w.answer(n, times)
	c.At = time.Now()
	if all {
		c.Hardware.At = c.At
	}
	return c, err
}

// ClearLog implements Examiner.
func (*ward) ClearLog(context.Context, fleet.Node) error { return nil }

// Checkups implements Checkups.
func (w *ward) Checkups(context.Context) (all []fleet.Checkup, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.kept {
		all = append(all, c)
	}
	return all, nil
}

// SaveCheckup implements Checkups.
func (w *ward) SaveCheckup(_ context.Context, c fleet.Checkup) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kept[c.Node] = c
	return nil
}

// attend runs an engine over so many nodes for a while.
func attend(t *testing.T, w *ward, nodes int, change func(i int, n *fleet.Node), during func(e *Engine)) *memoryStore {
	t.Helper()
	s := &memoryStore{}
	for i := range nodes {
		n := fleet.Node{
			ID: fleet.NodeID(fmt.Sprintf("n-%03d", i)), MAC: fleet.MAC(fmt.Sprintf("52:54:00:00:01:%02x", i)), State: fleet.Ready, Revision: 1,
			BMC: fleet.BMC{Address: fmt.Sprintf("10.77.2.%d", i), Driver: fleet.DriverIPMI, Username: "admin", SealedPassword: "x"},
		}
		change(i, &n)
		s.world.Nodes = append(s.world.Nodes, n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	e := New(Options{Store: s, Examiner: w, Checkups: w})
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	<-e.Started()
	during(e)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	return s
}

func wait(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // fake time: synctest
	synctest.Wait()
}

func TestEachMachineIsExaminedAtAPoliteRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const nodes = 100
		w := newWard(func(fleet.Node, int) (fleet.Checkup, error) { return fleet.Checkup{Health: fleet.HealthOK}, nil })
		attend(t, w, nodes, func(int, *fleet.Node) {}, func(*Engine) { wait(6 * time.Hour) })
		if len(w.asked) != nodes || w.peak > atOnce || w.peak < 2 {
			t.Errorf("%d of %d were asked, at most %d at once; want %d", len(w.asked), nodes, w.peak, atOnce)
		}
		for id, times := range w.asked {
			if len(times) < 30 || len(times) > 42 || w.whole[id] != 1 {
				t.Errorf("%s was asked %d times in 6 hours, %d times for all", id, len(times), w.whole[id])
			}
			for i := 1; i < len(times); i++ {
				if gap := times[i].Sub(times[i-1]); gap < 9*time.Minute {
					t.Errorf("%s was asked again after %s", id, gap)
				}
			}
		}
	})
}

func TestABMCThatIsSilentIsAskedLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard(func(n fleet.Node, _ int) (fleet.Checkup, error) {
			if n.ID == "n-000" {
				return fleet.Checkup{}, &fleet.Error{Kind: fleet.Unreachable, Code: fleet.CodeBMCTimeout, Err: errors.New("the BMC does not answer")}
			}
			return fleet.Checkup{Health: fleet.HealthOK}, nil
		})
		attend(t, w, 2, func(int, *fleet.Node) {}, func(e *Engine) {
			wait(12 * time.Hour)
			if found := alarmsOf(e, fleet.CodeBMCUnread); len(found) != 1 {
				t.Errorf("alarms of silence: %v", e.Alarms())
			}
		})
		if dead, alive := len(w.asked["n-000"]), len(w.asked["n-001"]); dead > 16 || dead < 10 || alive < 60 {
			t.Errorf("the silent one was asked %d times in 12 hours, the other %d times", dead, alive)
		}
	})
}

func TestWhoIsBusyIsNotExamined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard(func(_ fleet.Node, asked int) (fleet.Checkup, error) {
			if asked == 1 {
				return fleet.Checkup{}, &fleet.Error{Kind: fleet.Conflict, Code: fleet.CodeBMCBusy, Err: errors.New("somebody else talks to it")}
			}
			return fleet.Checkup{Health: fleet.HealthOK}, nil
		})
		attend(t, w, 4, func(i int, n *fleet.Node) {
			switch i {
			case 0:
				n.Run = "r-1"
			case 1:
				n.BMC.NewPin = "another"
			case 2:
				n.BMC = fleet.BMC{Wanted: fleet.DriverWOL}
			}
		}, func(*Engine) { wait(5 * time.Minute) })
		if len(w.asked) != 1 || len(w.asked["n-003"]) != 2 {
			t.Errorf("asked: %v; want the last one, and once more soon after it was busy", w.asked)
		}
	})
}

func TestWhatIsWrongWithAMachineIsAnAlarmUntilItIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		health := fleet.HealthOK
		set := func(h fleet.Health) { mu.Lock(); defer mu.Unlock(); health = h }
		w := newWard(func(fleet.Node, int) (fleet.Checkup, error) {
			mu.Lock()
			defer mu.Unlock()
			c := fleet.Checkup{Health: health}
			if health.Bad() {
				c.Faults = []fleet.Fault{{Part: "Fan1", Health: health, Detail: "stopped"}}
				c.Log.Entries = []fleet.LogEntry{{ID: "7", Health: fleet.HealthCritical, Text: "fan 1 stopped"}}
			}
			return c, nil
		})
		s := attend(t, w, 1, func(int, *fleet.Node) {}, func(e *Engine) {
			wait(2 * time.Minute)
			if len(e.Alarms()) != 0 {
				t.Errorf("alarms of a machine that is well: %v", e.Alarms())
			}
			set(fleet.HealthCritical)
			wait(15 * time.Minute)
			ill, log := alarmsOf(e, fleet.CodeBMCHealth), alarmsOf(e, fleet.CodeBMCLog)
			if len(ill) != 1 || ill[0] != "critical: Fan1 stopped" || len(log) != 1 || log[0] != "fan 1 stopped" {
				t.Errorf("alarms %v", e.Alarms())
			}
			set(fleet.HealthOK)
			wait(15 * time.Minute)
			if len(e.Alarms()) != 0 {
				t.Errorf("alarms when it is well again: %v", e.Alarms())
			}
		})
		if n := s.only(t); len(n.BMC.Findings) != 0 || s.world.LastSeq < 3 {
			t.Errorf("findings %v, %d events", n.BMC.Findings, s.world.LastSeq)
		}
	})
}

func alarmsOf(e *Engine, code string) (details []string) {
	for _, a := range e.Alarms() {
		if a.Code == code {
			details = append(details, a.Detail)
		}
	}
	return details
}
