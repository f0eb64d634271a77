package tftp

import (
	"errors"
	"fmt"
	"time"
)

// Limits of time. A client that never acknowledged anything is given up
// earlier, as it may be nobody at all, but not before UEFI gives up (six times
// four seconds): when a whole hall boots at once, ACKs get lost for long.
const (
	unheardFor = 25 * time.Second
	silentFor  = 30 * time.Second
	longest    = time.Hour
)

// How often something is sent, at most, to a client that never acknowledged
// anything, unless it asks again. It may be nobody who asked: a request in its
// name costs the sender next to nothing. An answer to options is about as long
// as they were, a first block is 516 bytes whatever the request was.
const (
	mostUnheardAnswers = 6
	mostUnheardBlocks  = 2
)

// How often a block is sent to a client whose ACKs prove nothing, unless it
// says the last one again: a guess that hits is not to bring blocks for half a
// minute.
const mostBlindBlocks = 2

// Why a transfer ended, other than well.
var (
	// ErrUnheard is the end of a transfer whose first packets nobody ever
	// acknowledged. A firewall that lets requests through, but not the answers
	// from another port, looks like that.
	ErrUnheard = errors.New("no packet was ever acknowledged")
	// ErrSilent is the end of a transfer whose client fell silent.
	ErrSilent = errors.New("the client fell silent")
	// ErrLastUnheard is the end of a transfer that was sent whole; only the
	// last ACK never came. Most likely the client has all.
	ErrLastUnheard = errors.New("all was sent; the last ACK never came")
	// ErrStopped is the end of a transfer that the server's own end broke off.
	ErrStopped = errors.New("the server stopped")

	errRestarted = errors.New("the client began again")
	errCrowded   = errors.New("gave way: too many half-open transfers")
	errWasteful  = errors.New("the client drew far more packets than the file has")
	errNoLine    = errors.New("no socket is left for it")
	errPanicked  = errors.New("it made us fail: see the log")
)

// An AbortedError is what a client said when it broke a transfer off.
type AbortedError struct {
	Code uint16
	Text string // hostile
}

func (e *AbortedError) Error() string {
	return fmt.Sprintf("the client broke off: error %d %q", e.Code, e.Text)
}

// A session decides what a transfer sends next. It knows no socket and no
// clock: who owns it tells it of ACKs, and of the time.
//
// Blocks are counted without wrapping. Block 0 is the answer to options
// (OACK), which is acknowledged like a block; without options it counts as
// acknowledged from the start.
type session struct {
	last   int64 // the block that ends the file
	window int64
	first  int64 // what acked was at the start
	blind  bool  // ACKs may be of somebody who guesses; then window is 1
	acked  int64 // highest block acknowledged; -1: nothing yet
	next   int64 // the block after the highest that is in flight
	sent   int64 // the block after the highest ever sent

	clock   rtt
	began   time.Time
	moved   time.Time // of the last progress
	sentAt  time.Time // of the flight
	due     time.Time // when to send it again
	tries   int       // times that this flight was sent again
	timed   bool      // the flight is fit to be measured by
	nudged  bool      // a repeated ACK has had its effect already
	hinted  bool      // the flight is due because an ACK said so
	packets int64
	resent  int64
}

func newSession(blocks, window int64, withOptions bool, timeout time.Duration, now time.Time) session {
	s := session{last: blocks, window: window, clock: newRTT(timeout), began: now, moved: now}
	if withOptions {
		s.acked, s.first = -1, -1
	}
	s.next = s.acked + 1
	s.sent = s.next
	return s
}

// flight returns the blocks to send now, first to last, and counts them as
// sent. The answer to options flies alone.
func (s *session) flight(now time.Time) (from, to int64) {
	from, to = s.acked+1, min(s.acked+s.window, s.last)
	if s.acked < 0 {
		to = 0
	}
	again := max(0, min(s.sent, to+1)-from)
	s.packets += to - from + 1
	s.resent += again
	s.timed = again == 0
	s.next = to + 1
	s.sent = max(s.sent, s.next)
	s.sentAt = now
	s.due = now.Add(s.clock.wait(s.tries))
	if last := s.moved.Add(unheardFor); !s.heard() && s.due.After(last) {
		s.due = last
	}
	return from, to
}

// ack takes an ACK in and says whether a flight is due now.
//
// The end of a flight brings the next. One that stands inside of it means that
// the block after it was lost, and sending goes on right there (RFC 7440 §4),
// or that a block came twice, and the rest of the flight is on its way: so it
// is given the time of a round trip to arrive. Otherwise both sides would send
// everything twice from then on. One of a block that is not in flight is of
// another time and means nothing.
func (s *session) ack(n uint16, now time.Time) bool {
	ahead := int64(n - uint16(s.acked)) //nolint:gosec // block numbers wrap
	switch {
	case ahead == 0:
		return s.repeated(now)
	case s.acked+ahead >= s.next:
		return false
	}
	s.acked += ahead
	s.moved, s.tries, s.nudged, s.hinted = now, 0, false, false
	if s.acked < s.next-1 {
		s.hint(now)
		return false
	}
	if s.timed {
		s.clock.measure(now.Sub(s.sentAt))
	}
	return !s.done()
}

// repeated is an ACK of what was acknowledged before. In lock-step it never
// draws a block again (the Sorcerer's Apprentice, RFC 1123 §4.2.3.1). With
// windows it is all that a client can say when the first block of a window was
// lost, so it counts once. And it is what a client has to say of a block that
// will not be sent again by itself.
func (s *session) repeated(now time.Time) bool {
	if s.spent() {
		return now.Sub(s.sentAt) >= leastWait && now.Sub(s.moved) < silentFor && !s.wasteful()
	}
	if s.window == 1 || s.acked < 0 || s.nudged {
		return false
	}
	s.nudged = true
	s.hint(now)
	return false
}

// spent reports whether the block in flight is sent again only if the client
// asks for it.
func (s *session) spent() bool { return s.blind && s.heard() && s.tries+1 >= mostBlindBlocks }

func (s *session) wasteful() bool { return s.resent > 16*s.last+1024 }

// hint has the flight be sent again from what is acknowledged, soon.
func (s *session) hint(now time.Time) {
	s.hinted = true
	if soon := now.Add(s.clock.flight()); soon.Before(s.due) {
		s.due = soon
	}
}

// expired is told that the flight is overdue. It says whether to send it
// again, or with an error that the transfer is over.
func (s *session) expired(now time.Time) (bool, error) {
	quiet := now.Sub(s.moved)
	switch {
	case now.Before(s.due):
		return false, nil
	case !s.heard() && quiet >= unheardFor:
		return false, ErrUnheard
	case quiet >= silentFor && s.next > s.last:
		return false, ErrLastUnheard
	case quiet >= silentFor, now.Sub(s.began) >= longest:
		return false, ErrSilent
	case s.wasteful():
		return false, errWasteful
	case s.spent():
		s.due = s.moved.Add(silentFor)
		return false, nil
	case !s.heard() && s.tries+1 >= s.mostUnheard():
		s.due = s.moved.Add(unheardFor) // it may ask again
		return false, nil
	}
	if !s.hinted {
		s.tries++
	}
	s.hinted = false
	return true, nil
}

func (s *session) done() bool { return s.acked == s.last }

// heard reports whether the client acknowledged anything at all.
func (s *session) heard() bool { return s.acked > s.first }

func (s *session) mostUnheard() int {
	if s.first < 0 {
		return mostUnheardAnswers
	}
	return mostUnheardBlocks
}

// An rtt is how long answers take, and from that, how long to wait for one
// (RFC 6298 with a lower floor: a machine room is no ocean).
type rtt struct {
	smooth, spread time.Duration // 0: not measured yet
	first, most    time.Duration // to wait before anything was measured; ever
}

const (
	firstWait = 250 * time.Millisecond
	leastWait = 50 * time.Millisecond
	mostWait  = 4 * time.Second
)

// newRTT takes the timeout that the client asked for; 0 for none. That is how
// long we wait at first. Each time that nobody answers we wait twice as long,
// whatever was asked. Sending sooner, when the network has turned out to be
// quick, harms nobody: a block too many is thrown away.
func newRTT(asked time.Duration) rtt {
	if asked == 0 {
		asked = firstWait
	}
	return rtt{first: asked, most: max(asked, mostWait)}
}

func (r *rtt) measure(took time.Duration) {
	if r.smooth == 0 {
		r.smooth, r.spread = max(took, 1), took/2
		return
	}
	off := r.smooth - took
	r.spread += (max(off, -off) - r.spread) / 4
	r.smooth = max(r.smooth-off/8, 1)
}

// wait returns how long to wait for an answer to what was sent so many times
// before.
func (r *rtt) wait(tries int) time.Duration {
	w := r.first
	if r.smooth > 0 {
		w = max(r.smooth+4*r.spread, leastWait)
	}
	return min(w<<min(tries, 10), r.most)
}

// flight returns how long a flight takes, there and back.
func (r *rtt) flight() time.Duration {
	if r.smooth == 0 {
		return leastWait
	}
	return r.smooth
}
