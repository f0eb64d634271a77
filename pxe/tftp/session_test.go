package tftp

import (
	"container/heap"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

const ms = time.Millisecond

// at is a time in a test.
func at(d time.Duration) time.Time { return time.Unix(1_000_000, 0).Add(d) }

// flight is [session.flight] as "from-to".
func flight(s *session, when time.Duration) string {
	from, to := s.flight(at(when))
	return fmt.Sprintf("%d-%d", from, to)
}

func TestAWindowGoesOnAfterTheBlockThatIsAcknowledged(t *testing.T) {
	s := newSession(100, 8, true, 0, at(0))
	steps := []struct {
		when time.Duration
		ack  int // -1: none, time passes
		want string
	}{
		{0, -1, "0-0"}, // the answer to options flies alone
		{1 * ms, 0, "1-8"},
		{2 * ms, 8, "9-16"},
		{3 * ms, 11, ""}, // 12 was lost, or 11 came twice
		{3 * ms, 11, ""}, // and the client says so for each block after it
		{4 * ms, -1, "12-19"},
		{4 * ms, 10, ""}, // an ACK that was overtaken
		{5 * ms, 25, ""}, // of a block that was never sent
		{6 * ms, 19, "20-27"},
		{7 * ms, 19, ""}, // 20 was lost: a repeated ACK is all that the client can say
		{8 * ms, -1, "20-27"},
		{9 * ms, 19, ""}, // once
		{10 * ms, -1, ""},
		{11 * ms, 27, "28-35"},
		{12 * ms, 30, ""}, // 30 came twice
		{12 * ms, 35, "36-43"},
		{13 * ms, -1, ""},
	}
	for i, step := range steps {
		send := false
		switch {
		case step.ack >= 0:
			send = s.ack(uint16(step.ack), at(step.when)) //nolint:gosec // small
		case i == 0:
			send = true
		default:
			send, _ = s.expired(at(step.when))
		}
		got := ""
		if send {
			got = flight(&s, step.when)
		}
		if got != step.want {
			t.Fatalf("step %d, ACK %d: sent %q, want %q", i, step.ack, got, step.want)
		}
	}
	if s.resent != 5+8 {
		t.Errorf("counted %d blocks as sent again, want 12 to 16 and 20 to 27", s.resent)
	}
}

func TestARepeatedACKNeverDrawsABlockInLockStep(t *testing.T) {
	s := newSession(100, 1, false, 0, at(0))
	s.flight(at(0))
	for i := range 50 {
		when := time.Duration(i) * 10 * ms
		if !s.ack(uint16(i+1), at(when)) {
			t.Fatalf("ACK %d draws nothing", i+1)
		}
		s.flight(at(when))
		for range 5 {
			if s.ack(uint16(i+1), at(when+5*ms)) {
				t.Fatalf("the second ACK of block %d draws a block", i+1)
			}
			if again, _ := s.expired(at(when + 9*ms)); again {
				t.Fatalf("the second ACK of block %d draws a block a little later", i+1)
			}
		}
	}
	if s.resent != 0 || s.packets != 51 {
		t.Errorf("%d packets, %d of them again, want 51 and 0", s.packets, s.resent)
	}
}

func TestBlockNumbersWrap(t *testing.T) {
	s := newSession(200_000, 64, false, 0, at(0))
	for when := time.Duration(0); !s.done(); when += ms {
		from, to := s.flight(at(when))
		if from != s.acked+1 || to-from > 63 {
			t.Fatalf("flight %d-%d after %d", from, to, s.acked)
		}
		s.ack(uint16(to), at(when)) //nolint:gosec // wraps
	}
	if s.packets != 200_000 {
		t.Errorf("%d packets for 200,000 blocks", s.packets)
	}
}

func TestSilenceIsAnsweredLessAndLessOftenAndThenNoMore(t *testing.T) {
	tests := map[string]struct {
		options bool
		window  int64
		acks    []uint16 // a millisecond after one another
		timeout time.Duration
		want    error
		end     time.Duration
		packets int64
	}{
		"nobody is there":              {false, 1, nil, 0, ErrUnheard, 25 * time.Second, 2},
		"nobody hears about options":   {true, 16, nil, 0, ErrUnheard, 25 * time.Second, 6},
		"the client wants us to wait":  {true, 1, nil, 3 * time.Second, ErrUnheard, 25 * time.Second, 6},
		"the client went away":         {true, 1, []uint16{0, 1, 2}, 0, ErrSilent, 30 * time.Second, 3 + 13},
		"only the last ACK is missing": {true, 4, []uint16{0, 4, 8}, 0, ErrLastUnheard, 30 * time.Second, 9 + 26},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newSession(10, tt.window, tt.options, tt.timeout, at(0))
			now := time.Duration(0)
			s.flight(at(now))
			for _, n := range tt.acks {
				now += ms
				if s.ack(n, at(now)) {
					s.flight(at(now))
				}
			}
			var err error
			for range 100 {
				var again bool
				if again, err = s.expired(s.due); err != nil {
					break
				}
				if again {
					s.flight(s.due)
				} else if s.heard() {
					t.Fatal("it is due, and not sent")
				}
			}
			if !errors.Is(err, tt.want) {
				t.Fatalf("ended with %v, want %v", err, tt.want)
			}
			took := s.due.Sub(s.moved)
			if took < tt.end || took > tt.end+5*time.Second {
				t.Errorf("ended after %s, want about %s", took, tt.end)
			}
			if s.packets != tt.packets {
				t.Errorf("sent %d packets, want %d", s.packets, tt.packets)
			}
		})
	}
}

func TestAnACKStormDrawsLittle(t *testing.T) {
	s := newSession(1000, 64, true, 0, at(0))
	s.flight(at(0))
	for i, now := 0, ms; i < 1_000_000 && !s.done(); i, now = i+1, now+10*time.Microsecond {
		send := s.ack(uint16(i), at(now)) //nolint:gosec // wraps
		again, err := s.expired(at(now))
		if err != nil {
			break
		}
		if send || again {
			s.flight(at(now))
		}
	}
	if s.packets > 20_000 {
		t.Errorf("%d packets for 1,000 blocks", s.packets)
	}
}

// A netEvent is a packet that arrives in the simulated network.
type netEvent struct {
	when     time.Duration
	seq      int
	toServer bool
	block    int64
}

type netEvents []netEvent

func (h netEvents) Len() int { return len(h) }
func (h netEvents) Less(i, j int) bool {
	return h[i].when < h[j].when || h[i].when == h[j].when && h[i].seq < h[j].seq
}
func (h netEvents) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *netEvents) Push(x any)   { *h = append(*h, x.(netEvent)) }
func (h *netEvents) Pop() any {
	e := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return e
}

// A simulation is a session and a client with a network between them that
// loses packets, doubles some, and lets few be overtaken; in no time.
type simulation struct {
	s       session
	chance  *rand.Rand
	loss    float64
	now     time.Duration
	events  netEvents
	latest  map[bool]time.Duration // arrival, by direction
	seq     int
	have    int64 // the client's highest block, -1: not even the options
	inRow   int64
	gap     bool
	heard   time.Duration
	window  int64
	patient time.Duration
}

func (m *simulation) send(toServer bool, block int64) {
	m.seq++
	if m.chance.Float64() < m.loss {
		return
	}
	copies := 1
	if m.chance.Float64() < m.loss/4 {
		copies = 2
	}
	for range copies {
		when := m.now + 500*time.Microsecond + time.Duration(m.chance.IntN(300))*time.Microsecond
		if m.chance.Float64() >= m.loss/10 { // else it is overtaken
			when = max(when, m.latest[toServer])
			m.latest[toServer] = when
		}
		heap.Push(&m.events, netEvent{when, m.seq, toServer, block})
	}
}

func (m *simulation) flight() {
	from, to := m.s.flight(at(m.now))
	for b := from; b <= to; b++ {
		m.send(false, b)
	}
}

// client takes a block, as RFC 7440 §4 has it.
func (m *simulation) client(block int64) {
	switch {
	case block == m.have+1:
		m.have, m.gap, m.heard = block, false, m.now
		m.inRow++
		if m.inRow == m.window || block == 0 || block == m.s.last {
			m.inRow = 0
			m.send(true, m.have)
		}
	case block == m.have || block > m.have && !m.gap:
		m.gap = block > m.have
		m.inRow = 0
		m.send(true, m.have)
	}
}

// run returns how long the transfer took.
func (m *simulation) run() (time.Duration, error) {
	m.flight()
	for range 5_000_000 {
		next := m.s.due.Sub(at(0))
		if len(m.events) > 0 {
			next = min(next, m.events[0].when)
		}
		m.now = max(m.now, min(next, m.heard+m.patient))
		switch {
		case len(m.events) > 0 && m.events[0].when <= m.now:
			e := heap.Pop(&m.events).(netEvent)
			if !e.toServer {
				m.client(e.block)
			} else if m.s.ack(uint16(e.block), at(m.now)) { //nolint:gosec // wraps
				m.flight()
			}
		case m.now >= m.heard+m.patient:
			m.heard = m.now
			m.inRow = 0
			m.send(true, m.have)
		default:
			again, err := m.s.expired(at(m.now))
			if err != nil {
				return m.now, err
			}
			if again {
				m.flight()
			}
		}
		if m.s.done() {
			return m.now, nil
		}
	}
	return m.now, errors.New("it goes on for ever")
}

func TestTransfersComeThroughLosses(t *testing.T) {
	const mib = 1 << 20 / 1428
	tests := []struct {
		window int64
		loss   float64
		within time.Duration // for 1 MiB, in the median of 21
		waste  float64       // packets for each block
	}{
		{1, 0, 1000 * ms, 1.01},
		{16, 0, 80 * ms, 1.01},
		{64, 0, 30 * ms, 1.01},
		{1, 0.005, 1500 * ms, 1.02},
		{4, 0.005, 600 * ms, 1.2},
		{16, 0.005, 200 * ms, 1.3},
		{64, 0.005, 150 * ms, 1.6},
		{1, 0.05, 7 * time.Second, 1.2},
		{16, 0.05, 2 * time.Second, 2},
		{1, 0.2, 60 * time.Second, 2},
		{16, 0.2, 30 * time.Second, 6},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("window %d, loss %g", tt.window, tt.loss), func(t *testing.T) {
			var took []time.Duration
			var packets int64
			for seed := range uint64(21) {
				m := simulation{
					s: newSession(mib+1, tt.window, true, 0, at(0)), chance: rand.New(rand.NewPCG(seed, 42)), //nolint:gosec // chance that repeats
					loss: tt.loss, have: -1, window: tt.window, latest: map[bool]time.Duration{}, patient: time.Second,
				}
				d, err := m.run()
				if err != nil {
					t.Fatalf("seed %d: %v after %s, %d of %d blocks", seed, err, d, m.have, m.s.last)
				}
				took = append(took, d)
				packets += m.s.packets
			}
			if m := median(took); m > tt.within {
				t.Errorf("1 MiB took %s, want at most %s", m, tt.within)
			}
			if each := float64(packets) / 21 / (mib + 1); each > tt.waste {
				t.Errorf("%.2f packets for each block, want at most %g", each, tt.waste)
			}
		})
	}
}

func median(d []time.Duration) time.Duration {
	for i := range d {
		for j := i; j > 0 && d[j] < d[j-1]; j-- {
			d[j], d[j-1] = d[j-1], d[j]
		}
	}
	return d[len(d)/2]
}

func TestTheWaitFollowsTheRoundTrip(t *testing.T) {
	r := newRTT(0)
	if got := r.wait(0); got != firstWait {
		t.Errorf("at first: %s, want %s", got, firstWait)
	}
	for range 20 {
		r.measure(ms)
	}
	if got := r.wait(0); got != leastWait {
		t.Errorf("after 1 ms each: %s, want %s", got, leastWait)
	}
	if got := r.wait(2); got != 4*leastWait {
		t.Errorf("the third time: %s, want %s", got, 4*leastWait)
	}
	for range 50 {
		r.measure(300 * ms)
	}
	if got := r.wait(0); got < 300*ms || got > 400*ms {
		t.Errorf("after 300 ms each: %s", got)
	}
	if got := r.wait(20); got != mostWait {
		t.Errorf("at last: %s, want %s", got, mostWait)
	}
	asked := newRTT(2 * time.Second)
	if got := asked.wait(0); got != 2*time.Second {
		t.Errorf("when the client asked for 2 s: %s", got)
	}
	asked.measure(ms)
	if got := asked.wait(9); got != mostWait {
		t.Errorf("at most: %s, want %s whatever the client asked for", got, mostWait)
	}
}

// A guess that hits brings a block, and once more the same. Who hears us says
// what it has, and gets on.
func TestABlockIsSentTwiceToWhoProvesNothingUnlessItAsks(t *testing.T) {
	s := newSession(1000, 1, true, 0, at(0))
	s.blind = true
	s.flight(at(0))
	now := at(0)
	send := func(n uint16) (packets int64) { // and then nothing, for as long as there is patience
		before := s.packets
		if s.ack(n, now) {
			s.flight(now)
		}
		for now = s.due; s.due.Sub(s.moved) < silentFor; now = s.due {
			again, err := s.expired(now)
			if err != nil {
				t.Fatal(err)
			}
			if again {
				s.flight(now)
			}
		}
		return s.packets - before
	}
	if n := send(0); n != 2 {
		t.Errorf("one ACK draws %d blocks, want 2", n)
	}
	now = s.sentAt.Add(leastWait / 2)
	if s.ack(0, now) {
		t.Error("an ACK that came twice draws a block")
	}
	now = s.sentAt.Add(time.Second)
	if n := send(0); n != 1 {
		t.Errorf("the same once more draws %d blocks, want 1", n)
	}
	now = s.sentAt.Add(time.Second)
	if n := send(1); n != 2 {
		t.Errorf("the next one draws %d blocks, want 2", n)
	}
	if s.ack(1, s.moved.Add(silentFor)) {
		t.Error("an ACK draws a block after the end")
	}
	if _, err := s.expired(s.due); !errors.Is(err, ErrSilent) {
		t.Errorf("it ends with %v, want silence", err)
	}
	for s.resent = 0; s.ack(1, s.moved.Add(time.Second)); s.resent++ {
	}
	if most := 16*s.last + 1024; s.resent != most+1 {
		t.Errorf("it asked %d times for the same, want at most %d", s.resent, most+1)
	}
}
