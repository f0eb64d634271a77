package bmc

import (
	"strings"
	"testing"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"
)

func said(seq uint8, text string) types.SOLPayloadPacket {
	return types.SOLPayloadPacket{SequenceNumber: seq, CharacterData: []byte(text)}
}

func TestWhatABMCSendsIsSeenOnce(t *testing.T) {
	tests := map[string]struct {
		packets []types.SOLPayloadPacket
		want    string
		lost    int64
	}{
		"one after the other":                   {[]types.SOLPayloadPacket{said(1, "log"), said(2, "in: ")}, "login: ", 0},
		"the same again":                        {[]types.SOLPayloadPacket{said(1, "log"), said(1, "log"), said(2, "in: ")}, "login: ", 0},
		"the same, grown":                       {[]types.SOLPayloadPacket{said(1, "log"), said(1, "login"), said(2, ": ")}, "login: ", 0},
		"the same, shorter":                     {[]types.SOLPayloadPacket{said(1, "login"), said(1, "log"), said(2, ": ")}, "login: ", 0},
		"one that trails":                       {[]types.SOLPayloadPacket{said(14, "a"), said(15, "b"), said(14, "a"), said(1, "c")}, "abc", 0},
		"numbers that begin anew":               {[]types.SOLPayloadPacket{said(15, "a"), said(1, "b")}, "ab", 0},
		"a gap":                                 {[]types.SOLPayloadPacket{said(1, "a"), said(4, "d")}, "ad", 1},
		"nothing but an acknowledgement":        {[]types.SOLPayloadPacket{said(0, "")}, "", 0},
		"characters with an acknowledgement":    {[]types.SOLPayloadPacket{said(0, "x")}, "", 0},
		"an overrun, with what came through":    {[]types.SOLPayloadPacket{{SequenceNumber: 1, ControlByte: solOverrun, CharacterData: []byte("a")}}, "a", 1},
		"acknowledgement of what was not asked": {[]types.SOLPayloadPacket{{AckedSequenceNumber: 7, AcceptedCharacterCount: 200}}, "", 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := sol{most: 8}
			var got strings.Builder
			for _, p := range tt.packets {
				fresh, answer, ours := s.take(p, time.Time{})
				got.Write(fresh)
				if !ours {
					t.Errorf("packet %+v: the console is not ours any more", p)
				}
				if (answer != nil) != (p.SequenceNumber != 0) {
					t.Errorf("packet %+v was answered with %+v", p, answer)
				}
				if answer != nil && (answer.AckedSequenceNumber != p.SequenceNumber || answer.SequenceNumber != 0) {
					t.Errorf("packet %+v was answered with %+v", p, answer)
				}
			}
			if got.String() != tt.want || s.lost != tt.lost {
				t.Errorf("got %q and %d gaps, want %q and %d", got.String(), s.lost, tt.want, tt.lost)
			}
		})
	}
}

func TestKeysArriveOnceAndInOrder(t *testing.T) {
	// What the BMC takes of each packet; -1: the packet is lost.
	tests := map[string]struct {
		takes   []int
		want    string
		refused int64
	}{
		"all at once":               {nil, "provision", 0},
		"a few at a time":           {[]int{2, 1, 2}, "provision", 0},
		"lost packets":              {[]int{-1, -1, 4, -1}, "provision", 0},
		"nothing, for a while":      {[]int{0, 0, 0}, "provision", 0},
		"nothing at all: let it be": {make([]int, 60), "", 9},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s, now := sol{most: 4, keys: []byte("provision")}, time.Unix(1000, 0)
			var got strings.Builder
			var last uint8
			for round := 0; len(s.keys) > 0 && round < 200; round++ {
				p, again, alive := s.next(now)
				if !alive {
					t.Fatal("it gave the BMC up")
				}
				if p == nil {
					now = again
					continue
				}
				takes := len(p.CharacterData)
				if len(tt.takes) > 0 {
					takes, tt.takes = tt.takes[0], tt.takes[1:]
				}
				if takes < 0 {
					now = now.Add(solResend)
					continue
				}
				if takes = min(takes, len(p.CharacterData)); p.SequenceNumber == last {
					t.Fatalf("number %d was used twice", last)
				}
				last = p.SequenceNumber
				got.Write(p.CharacterData[:takes])
				s.take(types.SOLPayloadPacket{
					AckedSequenceNumber: p.SequenceNumber, AcceptedCharacterCount: uint8(takes), NACK: takes < len(p.CharacterData),
				}, now)
			}
			if got.String() != tt.want || s.refused != tt.refused {
				t.Errorf("the machine got %q, %d refused, want %q, %d", got.String(), s.refused, tt.want, tt.refused)
			}
		})
	}
}

func TestABMCThatAcknowledgesNothingIsGivenUp(t *testing.T) {
	s, now := sol{most: 4, keys: []byte("x")}, time.Unix(1000, 0)
	for range solTries {
		p, again, alive := s.next(now)
		if p == nil || !alive {
			t.Fatalf("given up at %s", now)
		}
		now = again
	}
	if _, _, alive := s.next(now); alive {
		t.Error("it is tried for ever")
	}
}

func TestABreakGoesAlone(t *testing.T) {
	s, now := sol{most: 4, keys: []byte("b"), breaks: 1}, time.Unix(1000, 0)
	p, _, _ := s.next(now)
	if p == nil || p.ControlByte != solBreak || len(p.CharacterData) > 0 {
		t.Fatalf("the first packet is %+v, want a break", p)
	}
	s.take(types.SOLPayloadPacket{AckedSequenceNumber: p.SequenceNumber}, now)
	if p, _, _ = s.next(now); p == nil || p.ControlByte != 0 || string(p.CharacterData) != "b" {
		t.Errorf("the second packet is %+v, want the key", p)
	}
}

func TestAConsoleThatIsGoneIsNoticed(t *testing.T) {
	s := sol{}
	if _, _, ours := s.take(types.SOLPayloadPacket{ControlByte: solDeactivated}, time.Time{}); ours {
		t.Error("deactivated, and still ours")
	}
	p := newPulse(7, time.Minute, time.Unix(1000, 0))
	for i, tt := range []struct {
		owner uint32
		ours  bool
	}{{7, true}, {9, true}, {7, true}, {9, true}, {9, false}} {
		if got := p.answer(tt.owner); got != tt.ours {
			t.Errorf("answer %d, owner %d: ours = %t", i, tt.owner, got)
		}
	}
	silent := newPulse(0, time.Minute, time.Unix(1000, 0))
	for range 2 {
		if !silent.answer(9) {
			t.Error("a BMC that told no owner first has given the console away")
		}
	}
}

func FuzzWhatABMCSendsOnAConsoleBreaksNothing(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 'a'}, uint8(0))
	f.Add([]byte{0, 1, 4, 0x40}, uint8(9))
	f.Add([]byte{15, 15, 255, 0xff}, uint8(200))
	f.Fuzz(func(t *testing.T, b []byte, keys uint8) {
		s := sol{most: 4, keys: make([]byte, keys)}
		now := time.Unix(1000, 0)
		for len(b) >= 4 {
			var p types.SOLPayloadPacket
			n := min(len(b), 4+int(b[2]%8))
			if p.Unpack(b[:n]) != nil {
				return
			}
			b = b[n:]
			fresh, _, _ := s.take(p, now)
			if len(fresh) > len(p.CharacterData) {
				t.Fatalf("%d characters came of %d", len(fresh), len(p.CharacterData))
			}
			if out, _, _ := s.next(now); out != nil && len(out.CharacterData) > s.most {
				t.Fatalf("a packet of %d characters", len(out.CharacterData))
			}
			now = now.Add(time.Second)
		}
		if len(s.keys) > int(keys) {
			t.Fatal("keys out of nothing")
		}
	})
}
