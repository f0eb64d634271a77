package dhcp

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"net/netip"
)

// Where the fixed fields of a message are (RFC 2131 §2). They end with the
// magic cookie that options follow.
const (
	atOp, atHType, atHLen, atHops  = 0, 1, 2, 3
	atXID, atFlags                 = 4, 10
	atClient, atYour, atServer     = 12, 16, 20
	atRelay, atHardware, atName    = 24, 28, 44
	atFile, atCookie, atOptions    = 108, 236, 240
	magicCookie                    = 0x63825363
	opRequest, opReply             = 1, 2
	codePad, codeOverload, codeEnd = 0, 52, 255
	fileOverloaded, nameOverloaded = 1, 2 // bits of option 52
)

var (
	errShort     = errors.New("shorter than its fixed fields")
	errCutOption = errors.New("an option is longer than what is left")

	errForgedInfo = errors.New("relay information that no relay writes: twice, or in file or sname")
)

// A message is a DHCP message as it came. Nothing is copied: what it returns
// points into the packet and holds until the next one is parsed. Its zero
// value is ready, and it is large: keep one and use it again.
type message struct {
	raw    []byte
	has    codeSet
	value  [256][]byte
	joined []byte // the values of options that came in pieces
}

// parse looks through a packet. One without the cookie is plain BOOTP
// (RFC 951) and has no options. Whatever a length says is checked; one option
// that is cut off spoils the whole packet.
func (m *message) parse(b []byte) error {
	m.raw, m.has, m.joined = b, codeSet{}, m.joined[:0]
	if len(b) < atCookie {
		return errShort
	}
	if !m.hasCookie() {
		return nil
	}
	var pieces codeSet
	if err := m.scan(b[atOptions:], true, &pieces); err != nil {
		return err
	}
	// The order is that of RFC 3396 §5: options, file, sname.
	overload := m.overload()
	if overload&fileOverloaded != 0 {
		if err := m.scan(b[atFile:atCookie], false, &pieces); err != nil {
			return err
		}
	}
	if overload&nameOverloaded != 0 {
		if err := m.scan(b[atName:atFile], false, &pieces); err != nil {
			return err
		}
	}
	if pieces != (codeSet{}) {
		m.join(overload, &pieces)
	}
	return nil
}

// scan enters the options of a field, and notes those that were there before.
// A relay puts its information whole and once into a field that is its to write to
// (RFC 3046 §2.1): where there is another option 82, somebody wants to be taken
// for a relay.
func (m *message) scan(field []byte, relays bool, pieces *codeSet) error {
	for {
		code, value, rest, err := cutOption(field)
		if err != nil || code == codeEnd {
			return err
		}
		known := m.has.contains(code)
		switch {
		case code == codeRelayInfo && (known || !relays):
			return errForgedInfo
		case known:
			pieces.add(code)
		default:
			m.has.add(code)
			m.value[code] = value
		}
		field = rest
	}
}

// cutOption cuts the first option off a field. The code is [codeEnd] where
// there is none, be it that the field ends without saying so.
func cutOption(field []byte) (code byte, value, rest []byte, err error) {
	for len(field) > 0 && field[0] == codePad {
		field = field[1:]
	}
	switch {
	case len(field) == 0 || field[0] == codeEnd:
		return codeEnd, nil, nil, nil
	case len(field) < 2 || len(field) < 2+int(field[1]):
		return 0, nil, nil, errCutOption
	}
	end := 2 + int(field[1])
	return field[0], field[2:end:end], field[end:], nil
}

// join puts options together that came more than once: they are pieces of a
// long one (RFC 3396 §7). The first walk says how much room each takes, so
// that a packet full of pieces costs no more than any other.
func (m *message) join(overload byte, pieces *codeSet) {
	var size, at [256]int
	m.eachPiece(overload, pieces, func(code byte, value []byte) { size[code] += len(value) })
	total := 0
	for code := range pieces.all {
		at[code] = total
		total += size[code]
	}
	if cap(m.joined) < total {
		m.joined = make([]byte, total)
	}
	m.joined = m.joined[:total]
	for code := range pieces.all {
		m.value[code] = m.joined[at[code] : at[code]+size[code] : at[code]+size[code]]
	}
	m.eachPiece(overload, pieces, func(code byte, value []byte) { at[code] += copy(m.joined[at[code]:], value) })
}

func (m *message) eachPiece(overload byte, pieces *codeSet, do func(code byte, value []byte)) {
	for i, field := range [][]byte{m.raw[atOptions:], m.raw[atFile:atCookie], m.raw[atName:atFile]} {
		if i > 0 && overload&byte(i) == 0 {
			continue
		}
		for {
			code, value, rest, err := cutOption(field)
			if err != nil || code == codeEnd {
				break
			}
			if pieces.contains(code) {
				do(code, value)
			}
			field = rest
		}
	}
}

// hasCookie reports whether there are options, or could be.
func (m *message) hasCookie() bool {
	return len(m.raw) >= atOptions && binary.BigEndian.Uint32(m.raw[atCookie:]) == magicCookie
}

// vendorFormat reports whether what stands where options would is something
// else, of the client's maker.
func (m *message) vendorFormat() bool {
	return !m.hasCookie() && len(m.raw) >= atOptions && binary.BigEndian.Uint32(m.raw[atCookie:]) != 0
}

// overload is option 52: which of the fields file and sname hold options.
func (m *message) overload() byte {
	if v := m.option(codeOverload); len(v) == 1 {
		return v[0]
	}
	return 0
}

// option returns the value of an option; nil when it is not there. One that is
// there without a value is empty, not nil.
func (m *message) option(code byte) []byte {
	if !m.has.contains(code) {
		return nil
	}
	return m.value[code]
}

// addrOption returns an option that is one address.
func (m *message) addrOption(code byte) netip.Addr { return addrOf(m.option(code)) }

// kind is option 53; 0 when it is not there.
func (m *message) kind() byte {
	if v := m.option(53); len(v) == 1 {
		return v[0]
	}
	return 0
}

func (m *message) op() byte           { return m.raw[atOp] }
func (m *message) hops() byte         { return m.raw[atHops] }
func (m *message) flags() uint16      { return binary.BigEndian.Uint16(m.raw[atFlags:]) }
func (m *message) client() netip.Addr { return addrOf(m.raw[atClient : atClient+4]) }
func (m *message) relay() netip.Addr  { return addrOf(m.raw[atRelay : atRelay+4]) }

// hardware returns the client's hardware address; ok is false unless it is six
// bytes that are one station's: not zero, not a group.
func (m *message) hardware() (hw [6]byte, ok bool) {
	hw = [6]byte(m.raw[atHardware:])
	return hw, m.raw[atHLen] == 6 && hw[0]&1 == 0 && hw != [6]byte{}
}

// addrOf reads an IPv4 address. The unspecified one is none.
func addrOf(b []byte) netip.Addr {
	if len(b) != 4 || [4]byte(b) == [4]byte{} {
		return netip.Addr{}
	}
	return netip.AddrFrom4([4]byte(b))
}

// A codeSet is a set of option codes.
type codeSet [4]uint64

func (s *codeSet) add(code byte)           { s[code>>6] |= 1 << (code & 63) }
func (s *codeSet) remove(code byte)        { s[code>>6] &^= 1 << (code & 63) }
func (s *codeSet) contains(code byte) bool { return s[code>>6]&(1<<(code&63)) != 0 }

// all yields the codes in ascending order.
func (s *codeSet) all(yield func(code byte) bool) {
	for i, word := range s {
		for ; word != 0; word &= word - 1 {
			if !yield(byte(i<<6 + bits.TrailingZeros64(word))) {
				return
			}
		}
	}
}
