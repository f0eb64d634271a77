package bmc

import (
	"time"

	"github.com/bougou/go-ipmi/pkg/types"
)

// sol is one serial-over-LAN payload as IPMI 2.0 chapter 15 has it: what is to
// be sent, and what is new of what came. It knows neither socket nor clock.
//
// go-ipmi's own SOLStream asks the BMC ten times a second whether there is
// something, sends each key in a packet of its own, cannot send a break, and
// gives up when characters were lost. This one speaks when there is something
// to say.
type sol struct {
	most int // characters in one packet to the BMC

	keys    []byte // not accepted by the BMC yet
	breaks  int    // asked for and not sent yet
	seq     uint8  // of our last packet with characters
	flight  *types.SOLPayloadPacket
	sent    time.Time // the flight, the last time
	tries   int
	stalled int       // how often the BMC took nothing of a flight
	hold    time.Time // nothing is sent before

	last     uint8 // sequence number of the BMC's last packet with characters
	accepted int   // of its characters

	lost    int64 // gaps in what the BMC sent, and its own overruns
	refused int64 // keys that the BMC would not take
}

// Times and limits of the protocol. ipmitool resends after a second, BMCs are
// told to after a tenth of one.
const (
	solResend  = 700 * time.Millisecond
	solTries   = 8
	solStall   = 100 * time.Millisecond
	solStalls  = 20      // then the keys are dropped: the machine is off, or its port is held
	solMaxKeys = 4 << 10 // waiting for the BMC
)

// Bits of a packet's last header byte, IPMI 2.0 table 15-2.
const (
	solBreak       = 1 << 4 // to the BMC: hold the line
	solUnavailable = 1 << 5 // from it: it can take no characters now
	solDeactivated = 1 << 4 // from it: the payload is, or is about to be, deactivated
	solOverrun     = 1 << 3 // from it: characters were lost
)

// Sequence numbers count from 1 to 15 and begin anew.
const solNumbers = 15

func solNext(seq uint8) uint8 { return seq%solNumbers + 1 }

// solAhead is how many packets seq is after last.
func solAhead(seq, last uint8) int { return (int(seq) - int(last) + solNumbers) % solNumbers }

// take reads a packet of the BMC: its new characters, and the answer that it
// is owed, if any. It reports false when the BMC says that the console is no
// longer ours.
func (s *sol) take(p types.SOLPayloadPacket, now time.Time) (fresh []byte, answer *types.SOLPayloadPacket, ours bool) {
	if p.AckedSequenceNumber != 0 && s.flight != nil && p.AckedSequenceNumber == s.flight.SequenceNumber {
		s.landed(p, now)
	}
	if p.ControlByte&solOverrun != 0 {
		s.lost++
	}
	if p.SequenceNumber != 0 {
		fresh = s.fresh(p)
		answer = &types.SOLPayloadPacket{AckedSequenceNumber: p.SequenceNumber, AcceptedCharacterCount: uint8(min(len(p.CharacterData), 255))}
	}
	return fresh, answer, p.ControlByte&solDeactivated == 0
}

// fresh returns what was not in an earlier packet. A packet that comes again
// may have grown; one that trails was delivered before. A gap is counted: what
// is lost cannot be asked for again, and the rest is still worth seeing.
func (s *sol) fresh(p types.SOLPayloadPacket) []byte {
	data := p.CharacterData
	if s.last != 0 {
		switch ahead := solAhead(p.SequenceNumber, s.last); {
		case ahead == 0:
			from := min(s.accepted, len(data))
			s.accepted = max(s.accepted, len(data))
			return data[from:]
		case ahead > solNumbers/2:
			return nil
		case ahead > 1:
			s.lost++
		}
	}
	s.last, s.accepted = p.SequenceNumber, len(data)
	return data
}

// landed is told what became of the packet in flight.
func (s *sol) landed(p types.SOLPayloadPacket, now time.Time) {
	chars := len(s.flight.CharacterData)
	n := min(int(p.AcceptedCharacterCount), chars)
	if !p.NACK && p.AcceptedCharacterCount == 0 {
		n = chars // some BMCs count only what they refuse
	}
	s.flight, s.tries = nil, 0
	s.keys = s.keys[min(n, len(s.keys)):]
	if n == chars {
		s.stalled = 0
		return
	}
	s.hold = now.Add(solStall)
	if s.stalled++; s.stalled > solStalls || p.ControlByte&solUnavailable != 0 && s.stalled > 3 {
		s.refused += int64(len(s.keys))
		s.keys, s.stalled = nil, 0
	}
}

// next returns what is to be sent now, if anything, and when to ask again at
// the latest; zero: when something has happened. It reports false when the BMC
// does not answer any more.
func (s *sol) next(now time.Time) (p *types.SOLPayloadPacket, again time.Time, alive bool) {
	if s.flight != nil {
		if due := s.sent.Add(solResend); now.Before(due) {
			return nil, due, true
		}
		if s.tries >= solTries {
			return nil, time.Time{}, false
		}
	} else if !s.load(now) {
		if len(s.keys) > 0 || s.breaks > 0 {
			again = s.hold
		}
		return nil, again, true
	}
	s.sent = now
	s.tries++
	return s.flight, now.Add(solResend), true
}

// load puts the next packet together. A break goes alone, before keys.
func (s *sol) load(now time.Time) bool {
	if now.Before(s.hold) || len(s.keys) == 0 && s.breaks == 0 {
		return false
	}
	s.seq = solNext(s.seq)
	s.flight = &types.SOLPayloadPacket{SequenceNumber: s.seq}
	if s.breaks > 0 {
		s.breaks--
		s.flight.ControlByte = solBreak
		return true
	}
	s.flight.CharacterData = append([]byte(nil), s.keys[:min(len(s.keys), s.most)]...)
	return true
}
