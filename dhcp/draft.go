package dhcp

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// A draft is an answer that is being written. Options are set in any order, and
// may be taken out again; a code that is set twice keeps the last value. It
// keeps what it is given and does not copy it.
//
// Its zero value is ready, and it is large: keep one and use it again.
type draft struct {
	flags   uint16
	client  netip.Addr // ciaddr; these are zero when invalid
	your    netip.Addr // yiaddr
	server  netip.Addr // siaddr
	file    string     // boot file field; at most maxFileField
	has     codeSet
	value   [256][]byte
	inName  codeSet // options that stand in the field sname
	inFile  codeSet // and in the field file
	scratch []byte  // values that are made here
}

// reset makes it empty.
func (d *draft) reset(flags uint16) {
	d.flags, d.file = flags, ""
	d.client, d.your, d.server = netip.Addr{}, netip.Addr{}, netip.Addr{}
	d.has, d.inName, d.inFile, d.scratch = codeSet{}, codeSet{}, codeSet{}, d.scratch[:0]
}

// set gives an option its value, which must not change until the draft is
// written.
func (d *draft) set(code byte, value []byte) {
	if code == codePad || code == codeEnd {
		return // they mark, and have no value
	}
	d.has.add(code)
	d.value[code] = value
}

func (d *draft) setText(code byte, text string) {
	at := len(d.scratch)
	d.scratch = append(d.scratch, text...)
	d.set(code, d.scratch[at:])
}

func (d *draft) setByte(code, value byte) {
	at := len(d.scratch)
	d.scratch = append(d.scratch, value)
	d.set(code, d.scratch[at:])
}

func (d *draft) setNumber(code byte, value uint32) {
	at := len(d.scratch)
	d.scratch = binary.BigEndian.AppendUint32(d.scratch, value)
	d.set(code, d.scratch[at:])
}

// setAddrs sets an option that is a list of addresses. One without addresses
// is left out.
func (d *draft) setAddrs(code byte, list ...netip.Addr) {
	at := len(d.scratch)
	for _, a := range list {
		if a.Is4() {
			b := a.As4()
			d.scratch = append(d.scratch, b[:]...)
		}
	}
	if len(d.scratch) > at {
		d.set(code, d.scratch[at:])
	}
}

// unset takes an option out.
func (d *draft) unset(code byte) {
	d.has.remove(code)
	d.inName.remove(code)
	d.inFile.remove(code)
}

// leastMessage is what a message is padded to: old ROMs drop shorter ones.
const leastMessage = 300

// size is how long the message will be.
func (d *draft) size() int {
	n := atOptions + len("\xff")
	for code := range d.has.all {
		if !d.inName.contains(code) && !d.inFile.contains(code) {
			n += optionSize(len(d.value[code]))
		}
	}
	return max(n, leastMessage)
}

// optionSize is the length of an option with its headers: a long one takes a
// header for each 255 bytes (RFC 3396).
func optionSize(n int) int {
	return n + 2*max(1, (n+254)/255)
}

// appendTo writes the answer to a request. Options are in ascending order, but
// that of the relay is the last (RFC 3046 §2.1).
func (d *draft) appendTo(b []byte, to *message) []byte {
	start := len(b)
	b = append(b, make([]byte, atOptions)...)
	fixed := b[start:]
	fixed[atOp] = opReply
	copy(fixed[atHType:], to.raw[atHType:atHLen+1])
	copy(fixed[atXID:], to.raw[atXID:atXID+4])
	binary.BigEndian.PutUint16(fixed[atFlags:], d.flags)
	putAddr(fixed[atClient:], d.client)
	putAddr(fixed[atYour:], d.your)
	putAddr(fixed[atServer:], d.server)
	copy(fixed[atRelay:], to.raw[atRelay:atHardware+16])
	copy(fixed[atFile:atCookie], d.file)
	d.putField(fixed[atName:atFile], &d.inName)
	d.putField(fixed[atFile:atCookie], &d.inFile)
	binary.BigEndian.PutUint32(fixed[atCookie:], magicCookie)
	const relayInfo = 82
	for code := range d.has.all {
		if code != relayInfo && !d.inName.contains(code) && !d.inFile.contains(code) {
			b = appendOption(b, code, d.value[code])
		}
	}
	if d.has.contains(relayInfo) {
		b = appendOption(b, relayInfo, d.value[relayInfo])
	}
	b = append(b, codeEnd)
	for len(b) < start+leastMessage {
		b = append(b, codePad)
	}
	return b
}

// putField writes options into a field that they were moved to.
func (d *draft) putField(field []byte, codes *codeSet) {
	if *codes == (codeSet{}) {
		return
	}
	b := field[:0]
	for code := range codes.all {
		b = appendOption(b, code, d.value[code])
	}
	_ = append(b, codeEnd) // there is room: see overload
}

func putAddr(to []byte, a netip.Addr) {
	if a.Is4() {
		b := a.As4()
		copy(to, b[:])
	}
}

// appendOption writes an option, in pieces of 255 bytes when it is longer.
func appendOption(b []byte, code byte, value []byte) []byte {
	for {
		n := min(len(value), 255)
		b = append(b, code, byte(n))
		b = append(b, value[:n]...)
		if value = value[n:]; len(value) == 0 {
			return b
		}
	}
}

// setLeaseTime writes another lease time into a message that was written with
// one. It fails when there is none in it.
func setLeaseTime(packet []byte, lease time.Duration) (ok bool) {
	for field := packet[atOptions:]; ; {
		code, value, rest, err := cutOption(field)
		if err != nil || code == codeEnd {
			return ok
		}
		if len(value) == 4 {
			switch code {
			case 51:
				binary.BigEndian.PutUint32(value, seconds(lease))
				ok = true
			case 58:
				binary.BigEndian.PutUint32(value, seconds(lease/2))
			case 59:
				binary.BigEndian.PutUint32(value, seconds(lease/8*7))
			}
		}
		field = rest
	}
}
