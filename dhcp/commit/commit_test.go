package commit

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/rackstage/provision/fleet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A promise is an answer that promises leases.
type promise struct {
	name   string
	leases []lease
}

type lease struct {
	addr netip.Addr
	who  string
}

// A disk is a server whose leases are words on a disk.
type disk struct {
	err                 error
	saved, sent, spared []string
	sick                []error
	book                map[netip.Addr]int // leases that were promised and of which nothing was heard
}

func (d *disk) queue(size int) *Queue[promise, lease] {
	d.book = make(map[netip.Addr]int)
	return New(Options[promise, lease]{
		Size:   size,
		Leases: func(to []lease, r *promise) []lease { return append(to, r.leases...) },
		Addr:   func(l *lease) netip.Addr { return l.addr },
		Save:   d.save,
		Stored: func(leases []lease, _ bool) {
			for _, l := range leases {
				d.book[l.addr]--
			}
		},
		Send:  func(answers []promise) { d.sent = append(d.sent, namesOf(answers)...) },
		Spare: func(answers []promise) { d.spared = append(d.spared, namesOf(answers)...) },
		Sick:  func(err error) { d.sick = append(d.sick, err) },
		Log:   slog.New(slog.DiscardHandler),
	})
}

func (d *disk) save(_ context.Context, leases []lease) error {
	if d.err != nil {
		return d.err
	}
	for _, l := range leases {
		if l.who == "bad" {
			return fleet.Invalidf("lease", "", errors.New("no good"))
		}
		if l.who == "held" {
			return &fleet.Error{Kind: fleet.Conflict, Err: errors.New("another has it")}
		}
	}
	for _, l := range leases {
		d.saved = append(d.saved, l.who)
	}
	return nil
}

func (d *disk) promise(name string, who ...string) promise {
	r := promise{name: name}
	for i, w := range who {
		addr := netip.AddrFrom4([4]byte{10, 0, name[0], byte(i)})
		d.book[addr]++
		r.leases = append(r.leases, lease{addr, w})
	}
	return r
}

func (d *disk) waits() (n int) {
	for _, left := range d.book {
		n += left
	}
	return n
}

func namesOf(answers []promise) (names []string) {
	for _, r := range answers {
		names = append(names, r.name)
	}
	return names
}

func TestOnlyTheAnswerWithARefusedLeaseIsLost(t *testing.T) {
	d := &disk{}
	q := d.queue(1)
	q.Commit(t.Context(), []promise{d.promise("a", "1"), d.promise("b", "2", "bad"), d.promise("c", "3", "4"), d.promise("d", "5"), d.promise("e", "6"), d.promise("f", "held")})
	if got := strings.Join(d.sent, "") + " without " + strings.Join(d.spared, ""); got != "acde without bf" {
		t.Errorf("sent %s", got)
	}
	if got := strings.Join(d.saved, ""); got != "13456" {
		t.Errorf("saved %s", got)
	}
	if len(d.sick) != 0 || d.waits() != 0 {
		t.Errorf("sick %v, %d leases wait; the store is well", d.sick, d.waits())
	}
}

func TestOfAnAddressTheLastLeaseIsStored(t *testing.T) {
	d := &disk{}
	q := d.queue(1)
	q.Commit(t.Context(), []promise{d.promise("a", "1", "2"), d.promise("a", "3"), d.promise("b", "4"), d.promise("a", "5")})
	if got := strings.Join(d.saved, ""); got != "245" || len(d.sent) != 4 {
		t.Errorf("saved %s, sent %v; want 245, and all answered", got, d.sent)
	}
}

func TestNothingIsSentThatIsNotStored(t *testing.T) {
	full := errors.New("no space left on device")
	d := &disk{err: full}
	q := d.queue(1)
	q.Commit(t.Context(), []promise{d.promise("a", "1"), d.promise("b", "2")})
	q.Commit(t.Context(), []promise{d.promise("c", "3")})
	if len(d.sent) != 0 || strings.Join(d.spared, "") != "abc" || d.waits() != 0 {
		t.Errorf("sent %v, spared %v, %d leases wait", d.sent, d.spared, d.waits())
	}
	d.err = nil
	q.Commit(t.Context(), []promise{d.promise("d", "4")})
	q.Commit(t.Context(), []promise{d.promise("e", "5")})
	if want := []error{full, full, nil}; !slices.Equal(d.sick, want) || strings.Join(d.sent, "") != "de" {
		t.Errorf("told %v, sent %v; want %v", d.sick, d.sent, want)
	}
}

func TestWhatDoesNotFitIntoTheQueueIsNotPromised(t *testing.T) {
	d := &disk{}
	q := d.queue(2)
	if !q.Add(d.promise("a", "1")) || !q.Add(d.promise("b", "2")) || q.Add(d.promise("c", "3", "4")) {
		t.Error("a queue for two takes another number")
	}
	if n := d.waits(); n != 2 {
		t.Errorf("%d leases wait, want 2", n)
	}
	q.Abandon()
	if d.waits() != 0 || len(d.saved) != 0 {
		t.Errorf("%d leases wait after all were given up, %v saved", d.waits(), d.saved)
	}
}

func TestAnswersThatComeMeanwhileShareATransaction(t *testing.T) {
	d := &disk{}
	q := d.queue(2 * GroupSize)
	for range GroupSize + 50 {
		q.Add(d.promise("a", "1"))
	}
	for _, want := range []int{GroupSize, 50} {
		if got := len(q.fill(<-q.wait)); got != want {
			t.Errorf("a group of %d, want %d", got, want)
		}
	}
}

// Store and network allocate; the queue costs one list of leases for a group.
func TestAGroupCostsOneAllocation(t *testing.T) {
	d := &disk{}
	q := d.queue(GroupSize)
	var answers []promise
	for i := range GroupSize {
		answers = append(answers, d.promise(string([]byte{byte(i)}), "1"))
	}
	q.o.Save = func(context.Context, []lease) error { return nil }
	q.o.Stored, q.o.Send = func([]lease, bool) {}, func([]promise) {}
	allocs := testing.AllocsPerRun(50, func() {
		for _, r := range answers {
			q.Add(r)
		}
		q.save(t.Context(), q.fill(<-q.wait))
	})
	if allocs > 1 {
		t.Errorf("%v allocations for a group, want 1", allocs)
	}
}

func TestASlowDiskIsSaid(t *testing.T) {
	for took, said := range map[time.Duration]bool{100 * time.Millisecond: false, 3 * time.Second: true} {
		synctest.Test(t, func(t *testing.T) {
			var log strings.Builder
			d := &disk{}
			q := d.queue(1)
			q.o.Log = slog.New(slog.NewTextHandler(&log, nil))
			q.o.Save = func(ctx context.Context, leases []lease) error {
				<-time.After(took)
				return d.save(ctx, leases)
			}
			q.Commit(t.Context(), []promise{d.promise("a", "1", "2")})
			if got := strings.Contains(log.String(), "the disk is slow\" leases=2 took=3s"); got != said {
				t.Errorf("after %v the log is %q", took, log.String())
			}
			if len(d.sent) != 1 || len(d.sick) != 0 {
				t.Errorf("sent %v, sick %v; want the answer all the same", d.sent, d.sick)
			}
		})
	}
}
