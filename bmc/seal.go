package bmc

import (
	"crypto/hmac"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/bougou/go-ipmi/pkg/crypto"
	"github.com/bougou/go-ipmi/pkg/rmcpplus"
	"github.com/bougou/go-ipmi/pkg/types"
)

// What an IPMI 2.0 datagram begins with, table 13-8: RMCP header (4), kind of
// session, flags with the payload's type, our session, its sequence, and the
// payload's length.
const (
	kindAt    = 4
	typeAt    = 5
	sessionAt = 6
	lengthAt  = 14
	payloadAt = 16

	kindRMCPPlus  = byte(types.AuthTypeRMCPPlus)
	payloadType   = 0x3f
	flagEncrypted = 0x80
	flagSealed    = 0x40
)

// payloadOf tells the type of what an IPMI 2.0 datagram carries.
func payloadOf(b []byte) (types.PayloadType, bool) {
	if len(b) < payloadAt || b[kindAt] != kindRMCPPlus {
		return 0, false
	}
	return types.PayloadType(b[typeAt] & payloadType), payloadAt+int(binary.LittleEndian.Uint16(b[lengthAt:])) <= len(b)
}

// A seal is what shows that a datagram is of the BMC and of our session:
// anybody can send one in its name, in clear or in IPMI 1.5, and go-ipmi reads
// those too, and looks at no integrity code. Sequence numbers are not looked at:
// there are BMCs that do not count, and an answer fits one question only.
type seal struct {
	session   uint32
	flags     byte
	integrity types.IntegrityAlg
	code      int // its length
	key       []byte
	password  string
}

// newSeal makes the key that the BMC has made too, IPMI 2.0 sections 13.31 and
// 13.32: go-ipmi keeps its own to itself.
func newSeal(suite types.CipherSuiteID, session uint32, asked rmcpplus.RAKPMessage1, said *rmcpplus.RAKPMessage2, password string) (*seal, error) {
	auth, integrity, secrecy, _ := types.GetCipherSuiteAlgorithms(suite)
	s := &seal{session: session, integrity: integrity, password: password}
	if integrity != types.IntegrityAlg_None {
		s.flags |= flagSealed
	}
	if secrecy != types.CryptAlg_None {
		s.flags |= flagEncrypted
	}
	s.code, _ = crypto.IntegrityAuthCodeLen(integrity)
	random := asked.RemoteConsoleRandomNumber
	_, key, _, err := crypto.DeriveSessionKeys(auth, random[:], said.ManagedSystemRandomNumber[:], asked.Role(),
		string(asked.Username), crypto.PadPassword20([]byte(password)))
	if err != nil {
		return nil, fmt.Errorf("make session key: %w", err)
	}
	s.key = key
	return s, nil
}

// holds reports whether a datagram is sealed with our key.
func (s *seal) holds(b []byte) bool {
	if _, whole := payloadOf(b); !whole || b[typeAt]&s.flags != s.flags || binary.LittleEndian.Uint32(b[sessionAt:]) != s.session {
		return false
	}
	end := len(b) - s.code
	if end < payloadAt+int(binary.LittleEndian.Uint16(b[lengthAt:])) {
		return false
	}
	want, err := crypto.SessionIntegrityAuthCode(s.integrity, b[kindAt:end], s.key, s.password)
	return err == nil && hmac.Equal(want, b[end:])
}

// A filter passes what the BMC can have said at this point of a conversation,
// and nothing else: what comes late is an answer to an earlier question.
type filter struct {
	mu    sync.Mutex
	wait  types.PayloadType // for this step of the handshake
	seal  *seal             // of the open session
	asked rmcpplus.RAKPMessage1
}

// await lets nothing in but one message of the handshake, which has no seal.
func (f *filter) await(p types.PayloadType) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wait = p
}

// close lets nothing in but what is sealed.
func (f *filter) close(s *seal) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seal = s
}

// passes reports whether a datagram may be read.
func (f *filter) passes(b []byte) bool {
	f.mu.Lock()
	wait, s := f.wait, f.seal
	f.mu.Unlock()
	if s != nil {
		return s.holds(b)
	}
	is, whole := payloadOf(b)
	return whole && is == wait
}

// sent looks for our half of the key in what we send.
func (f *filter) sent(b []byte) {
	if is, whole := payloadOf(b); !whole || is != types.PayloadTypeRAKPMessage1 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	_ = f.asked.Unpack(b[payloadAt:]) // go-ipmi has packed it
}

// half is our half of the key.
func (f *filter) half() rmcpplus.RAKPMessage1 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked
}
