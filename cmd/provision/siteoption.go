package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/rackstage/provision/fleet"
)

// An optionFile is a DHCP option: its code, and its value under the name of
// its type.
type optionFile struct {
	Code   *int         `yaml:"code"`
	IP     []string     `yaml:"ip"`
	Text   *string      `yaml:"text"`
	Hex    *string      `yaml:"hex"`
	Uint8  *int         `yaml:"uint8"`
	Uint16 *int         `yaml:"uint16"`
	Uint32 *int         `yaml:"uint32"`
	Bool   *bool        `yaml:"bool"`
	Sub    []optionFile `yaml:"sub"` // encapsulated, as RFC 2132 §8.4 has it for option 43
}

const optionTypes = "ip: [10.77.0.1], text:, hex:, uint8:, uint16:, uint32:, bool: or sub: [{code: 1, …}]"

func (r *reader) options(on string, files []optionFile) (options []fleet.DHCPOption) {
	for i, f := range files {
		on := fmt.Sprintf("%s.options[%d]", on, i)
		data := r.value(on, f)
		options = append(options, fleet.DHCPOption{Code: r.code(on, f), Data: data})
	}
	return options
}

func (r *reader) code(on string, f optionFile) uint8 {
	if f.Code == nil || *f.Code < 1 || *f.Code > 254 {
		r.bad(on+".code", "write the number of the option, 1 to 254", "the option has no code")
		return 1
	}
	return uint8(*f.Code) //nolint:gosec // checked
}

// value encodes the one value that an option has.
func (r *reader) value(on string, f optionFile) (data []byte) {
	values := 0
	set := func(is bool, encode func() []byte) {
		if is {
			values++
			data = encode()
		}
	}
	set(f.IP != nil, func() []byte { return encodeAddrs(r.addrs(on+".ip", f.IP)) })
	set(f.Text != nil, func() []byte { return r.text(on+".text", *f.Text) })
	set(f.Hex != nil, func() []byte {
		raw, err := unhex(strings.TrimPrefix(*f.Hex, "0x"))
		if err != nil {
			r.bad(on+".hex", "write bytes such as 01 06 ab", "%q is not a row of bytes", *f.Hex)
		}
		return raw
	})
	set(f.Uint8 != nil, func() []byte { return r.number(on+".uint8", *f.Uint8, 1) })
	set(f.Uint16 != nil, func() []byte { return r.number(on+".uint16", *f.Uint16, 2) })
	set(f.Uint32 != nil, func() []byte { return r.number(on+".uint32", *f.Uint32, 4) })
	set(f.Bool != nil, func() []byte {
		if *f.Bool {
			return []byte{1}
		}
		return []byte{0}
	})
	set(f.Sub != nil, func() []byte { return r.encapsulate(on, f.Sub) })
	if values != 1 {
		r.bad(on, "give it one value, as "+optionTypes, "the option has %d values", values)
	}
	return data
}

func encodeAddrs(addrs []netip.Addr) (data []byte) {
	for _, a := range addrs {
		if a.Is4() { // others are refused already
			data = append(data, a.AsSlice()...)
		}
	}
	return data
}

func (r *reader) text(on, text string) []byte {
	if strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		r.bad(on, "write bytes that are no text as hex:", "the text contains control characters")
	}
	return []byte(text)
}

func (r *reader) number(on string, n, size int) []byte {
	if n < 0 || n >= 1<<(8*size) {
		r.bad(on, "", "%d does not fit into %d bytes", n, size)
	}
	return binary.BigEndian.AppendUint64(nil, uint64(n))[8-size:] //nolint:gosec // checked
}

// encapsulate puts options into one. None of theirs can be one in turn.
func (r *reader) encapsulate(on string, subs []optionFile) (data []byte) {
	for i, s := range subs {
		on := fmt.Sprintf("%s.sub[%d]", on, i)
		if s.Sub != nil {
			r.bad(on+".sub", "write what is in there as hex:", "options are encapsulated twice")
			continue
		}
		value := r.value(on, s)
		if len(value) > 255 {
			r.bad(on, "shorten it", "a value of %d bytes; it can have 255", len(value))
			continue
		}
		data = append(data, r.code(on, s), byte(len(value))) //nolint:gosec // checked
		data = append(data, value...)
	}
	return data
}
