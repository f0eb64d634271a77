package bmc

import (
	"encoding/binary"
	"testing"

	"github.com/bougou/go-ipmi/pkg/crypto"
	"github.com/bougou/go-ipmi/pkg/rmcpplus"
	"github.com/bougou/go-ipmi/pkg/types"
)

// sealed is a datagram of a session, and its seal.
func sealed(tb testing.TB, suite types.CipherSuiteID) (*seal, []byte) {
	tb.Helper()
	const session = 0xa0a1a2a3
	asked := rmcpplus.RAKPMessage1{RemoteConsoleRandomNumber: [16]byte{1}, Username: []byte("admin")}
	s, err := newSeal(suite, session, asked, &rmcpplus.RAKPMessage2{ManagedSystemRandomNumber: [16]byte{2}}, "secret")
	if err != nil {
		tb.Fatal(err)
	}
	payload := make([]byte, 32)
	b := []byte{6, 0, 0xff, 7, kindRMCPPlus, s.flags}
	b = binary.LittleEndian.AppendUint32(b, session)
	b = binary.LittleEndian.AppendUint32(b, 1)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(payload))) //nolint:gosec // 32
	b = append(b, payload...)
	b = append(b, 0xff, 0xff, 2, 7)
	code, err := crypto.SessionIntegrityAuthCode(s.integrity, b[kindAt:], s.key, "secret")
	if err != nil {
		tb.Fatal(err)
	}
	return s, append(b, code...)
}

func TestASealBreaksWithEachByte(t *testing.T) {
	for _, suite := range []types.CipherSuiteID{3, 8, 12, 17} {
		s, b := sealed(t, suite)
		if !s.holds(b) {
			t.Fatalf("suite %d: the seal does not hold", suite)
		}
		for at := kindAt; at < len(b); at++ {
			b[at] ^= 0x01
			if s.holds(b) {
				t.Errorf("suite %d: byte %d may be another", suite, at)
			}
			b[at] ^= 0x01
		}
		if s.holds(b[:len(b)-1]) || s.holds(append(b, 0)) {
			t.Errorf("suite %d: it may have another length", suite)
		}
	}
}

func FuzzNoDatagramBreaksASeal(f *testing.F) {
	s, b := sealed(f, 17)
	f.Add(b)
	f.Add(b[:20])
	f.Add([]byte{6, 0, 0xff, 7, 6, 0xc0, 0xa3, 0xa2, 0xa1, 0xa0, 0, 0, 0, 0, 0xff, 0xff, 0, 0})
	f.Fuzz(func(t *testing.T, said []byte) {
		if s.holds(said) && string(said[kindAt:]) != string(b[kindAt:]) {
			t.Errorf("%x holds", said)
		}
		var open filter
		open.await(types.PayloadTypeRAKPMessage2)
		if is, whole := payloadOf(said); open.passes(said) && (!whole || is != types.PayloadTypeRAKPMessage2) {
			t.Errorf("%x passes", said)
		}
		open.sent(said)
	})
}
