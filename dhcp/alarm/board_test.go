package alarm

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// notes is the alarms that stand, as whoever is told of them knows.
type notes struct {
	stand map[string]string
	told  int
}

func (n *notes) Raise(code, on, detail string) { n.stand[code+" "+on], n.told = detail, n.told+1 }
func (n *notes) Clear(code, on string)         { delete(n.stand, code+" "+on) }

func (n *notes) String() string {
	return strings.Join(slices.Sorted(maps.Keys(n.stand)), ", ")
}

// aBoard returns a board, who is told, and a clock.
func aBoard() (*Board, *notes, *time.Time) {
	n := &notes{stand: make(map[string]string)}
	clock := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	return New(n, func() time.Time { return clock }, time.Minute), n, &clock
}

func TestAThousandPacketsRaiseAnAlarmAsOftenAsAFew(t *testing.T) {
	b, n, clock := aBoard()
	for i := range 1000 {
		b.Raise("E-1", "relay a", fmt.Sprint("packet ", i))
	}
	if n.told != 1 || n.stand["E-1 relay a"] != "packet 0" {
		t.Errorf("told %d times: %v", n.told, n.stand)
	}
	*clock = clock.Add(Every)
	b.Raise("E-1", "relay a", "packet 1000")
	if n.told != 2 || n.stand["E-1 relay a"] != "packet 1000" {
		t.Errorf("told %d times: %v", n.told, n.stand)
	}
}

func TestAnAlarmEndsWhenItsCauseWasNotSeenForLong(t *testing.T) {
	b, n, clock := aBoard()
	b.Raise("E-1", "relay a", "")
	*clock = clock.Add(time.Second) // too soon to be told again, but seen
	b.Raise("E-1", "relay a", "")
	*clock = clock.Add(time.Minute - 1)
	if b.Expire(); n.String() != "E-1 relay a" {
		t.Errorf("%q stand a minute less a moment after the cause was seen", n)
	}
	*clock = clock.Add(1)
	if b.Expire(); n.String() != "" {
		t.Errorf("%q stand a minute after the cause was seen", n)
	}
	if b.Raise("E-1", "relay a", ""); n.told != 2 {
		t.Errorf("told %d times, want 2: it has come back", n.told)
	}
}

func TestAlarmsAreCleared(t *testing.T) {
	b, n, _ := aBoard()
	for _, on := range []string{"a", "b", "c"} {
		b.Raise("E-1", on, "")
		b.Raise("E-2", on, "")
	}
	b.Clear("E-1", "a")
	b.Clear("E-3", "nobody raised it")
	b.ClearIf("E-2", func(on string) bool { return on != "b" })
	if got := n.String(); got != "E-1 b, E-1 c, E-2 b" {
		t.Errorf("%q stand", got)
	}
}

func TestOneKindOfAlarmLeavesRoomForTheOthers(t *testing.T) {
	b, n, clock := aBoard()
	for i := range 10 * Room {
		b.Raise("E-1", fmt.Sprint("relay ", i), "")
	}
	b.Raise("E-2", "subnet rack", "")
	if len(n.stand) != Room+1 || len(b.standing) != Room+1 {
		t.Errorf("%d alarms stand, %d are remembered; want %d", len(n.stand), len(b.standing), Room+1)
	}
	*clock = clock.Add(time.Minute)
	b.Expire()
	if b.Raise("E-1", "relay new", ""); n.String() != "E-1 relay new" {
		t.Errorf("%q stand, want what was raised after the others had ended", n)
	}
}
