package tftp

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"time"
)

func FuzzRequests(f *testing.F) {
	for _, p := range clientPackets(f, captures(f)...) {
		f.Add(p)
	}
	f.Add([]byte("\x00\x02x\x00netascii\x00"))
	f.Add([]byte("\x00\x01x\x00octet\x00timeout\x003\x00utimeout\x00100000\x00windowsize\x0064\x00"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := parseRequest(in)
		if err != nil {
			return
		}
		out := r.bytes()
		again, err := parseRequest(out)
		if err != nil || !bytes.Equal(again.bytes(), out) {
			t.Errorf("what goes to pin, %q, is not what it reads: %v", out, err)
		}
		if len(out) > maxRequest {
			t.Errorf("a request of %d bytes goes to pin", len(out))
		}
		if b, w := r.option("blksize"), r.option("windowsize"); b > maxBlock || b > 0 && b < plainBlock || w > maxWindow {
			t.Errorf("blocks of %d, %d at once", b, w)
		}
		if w := r.timeout(); w != 0 && (w < leastTimeout || w > mostTimeout) {
			t.Errorf("wait %s", w)
		}
		if name, ok := cleanName(r.name); ok && (strings.HasPrefix(name, "/") || strings.Contains("/"+name+"/", "/../")) {
			t.Errorf("name %q became %q", r.name, name)
		}
	})
}

// FuzzAcknowledgements has a client say anything in any order: three bytes are
// an ACK, and how many milliseconds later it came.
func FuzzAcknowledgements(f *testing.F) {
	f.Add(int64(1<<20), uint8(16), []byte{0, 0, 1, 0, 16, 1, 0, 20, 2, 0, 20, 2, 0, 36, 255})
	f.Add(int64(100), uint8(1), []byte{0, 1, 1})
	f.Add(int64(512*70000), uint8(64), []byte{255, 255, 9, 0, 0, 0})
	var acks []byte
	for _, p := range clientPackets(f, captures(f)...) {
		if binary.BigEndian.Uint16(p) == opACK {
			acks = append(acks, p[2], p[3], 1)
		}
	}
	f.Add(int64(1<<20), uint8(4), acks)
	f.Fuzz(func(t *testing.T, size int64, window uint8, script []byte) {
		if size < 0 || size > 1<<31 || window == 0 || window > maxWindow {
			return
		}
		now := time.Unix(0, 0)
		s := newSession(size/512+1, int64(window), size%2 == 0, 0, now)
		s.flight(now)
		for ; len(script) >= 3; script = script[3:] {
			now = now.Add(time.Duration(script[2]) * time.Millisecond)
			before := s.acked
			send := s.ack(binary.BigEndian.Uint16(script), now)
			if s.acked < before || s.acked >= s.next {
				t.Fatalf("acknowledged %d after %d, with %d sent", s.acked, before, s.next)
			}
			if s.done() {
				return
			}
			again, err := s.expired(now)
			if err != nil {
				return
			}
			if send || again {
				from, to := s.flight(now)
				if from > to || to > s.last || to-from >= int64(window) || from != s.acked+1 {
					t.Fatalf("flight %d to %d of %d after %d", from, to, s.last, s.acked)
				}
				if !s.due.After(now) {
					t.Fatal("the flight is due at once")
				}
			}
		}
	})
}
