package dhcp

import (
	"bytes"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// raw is the fixed fields of a DISCOVER, and these options.
func raw(options string) []byte {
	b := packet(macA, discover).ToBytes()[:atOptions]
	return append(b, options...)
}

// overloaded puts options into the fields file and sname.
func overloaded(options, file, name string) []byte {
	b := raw(options)
	copy(b[atFile:atCookie], file)
	copy(b[atName:atFile], name)
	return b
}

func TestAMessageIsReadAsTheStandardsSay(t *testing.T) {
	tests := map[string]struct {
		packet []byte
		want   map[byte]string
		err    error
	}{
		"options in a row":                  {raw("\x35\x01\x01\x0c\x02ab\xff"), map[byte]string{53: "\x01", 12: "ab"}, nil},
		"pads between":                      {raw("\x00\x00\x35\x01\x01\x00\x0c\x02ab\x00\xff"), map[byte]string{53: "\x01", 12: "ab"}, nil},
		"what is behind the end is nothing": {raw("\x35\x01\x01\xff\x0c\x02ab"), map[byte]string{53: "\x01"}, nil},
		"no end":                            {raw("\x35\x01\x01"), map[byte]string{53: "\x01"}, nil},
		"no options":                        {raw(""), map[byte]string{}, nil},
		"an option without a value":         {raw("\x35\x01\x01\x0c\x00\xff"), map[byte]string{53: "\x01", 12: ""}, nil},
		"an option in three pieces":         {raw("\x0c\x02ab\x35\x01\x01\x0c\x01c\x0c\x02de\xff"), map[byte]string{53: "\x01", 12: "abcde"}, nil},
		"two options in pieces":             {raw("\x0c\x01a\x0f\x01x\x0c\x01b\x0f\x02yz\xff"), map[byte]string{12: "ab", 15: "xyz"}, nil},
		"more options in the file field":    {overloaded("\x34\x01\x01\xff", "\x0c\x02ab\xff", "\x0f\x01x\xff"), map[byte]string{52: "\x01", 12: "ab"}, nil},
		"more options in the name field":    {overloaded("\x34\x01\x02\xff", "\x0c\x02ab\xff", "\x0f\x01x\xff"), map[byte]string{52: "\x02", 15: "x"}, nil},
		"pieces in all fields, in order":    {overloaded("\x34\x01\x03\x0c\x01a\xff", "\x0c\x01b\xff", "\x0c\x01c\xff"), map[byte]string{52: "\x03", 12: "abc"}, nil},
		"an overload of the overload":       {overloaded("\x34\x01\x01\xff", "\x34\x01\x02\xff", "\x0c\x01c\xff"), map[byte]string{52: "\x01\x02"}, nil},
		"a cut option":                      {raw("\x35\x01\x01\x0c\x05abc"), nil, errCutOption},
		"a code without a length":           {raw("\x35\x01\x01\x0c"), nil, errCutOption},
		"a cut option in the file field":    {overloaded("\x34\x01\x01\xff", "\x0c\xfe", ""), nil, errCutOption},
		"the fixed fields are cut":          {raw("")[:atCookie-1], nil, errShort},
		"nothing":                           {nil, nil, errShort},
		"no cookie":                         {raw("")[:atCookie], map[byte]string{}, nil},
		"another cookie":                    {bytes.Replace(raw("\x35\x01\x01\xff"), []byte{0x63, 0x82, 0x53, 0x63}, []byte{1, 2, 3, 4}, 1), map[byte]string{}, nil},
	}
	var m message // one for all: nothing of the one before may stay
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if err := m.parse(tt.packet); !errors.Is(err, tt.err) {
				t.Fatalf("parse = %v, want %v", err, tt.err)
			}
			if tt.err != nil {
				return
			}
			for code := range 256 {
				want, there := tt.want[byte(code)]
				if got := m.option(byte(code)); string(got) != want || (got != nil) != there {
					t.Errorf("option %d = %q, want %q, there: %t", code, got, want, there)
				}
			}
		})
	}
}

func TestReadingAndWritingTakeNoMemory(t *testing.T) {
	var m message
	var d draft
	in := packet(macA, discover, firmware("PXEClient:Arch:00007", 7), option(61, "\x01abcdef"), option(12, strings.Repeat("a", 300))).ToBytes()
	out := make([]byte, 0, 1500)
	round := func() {
		if err := m.parse(in); err != nil {
			t.Fatal(err)
		}
		d.reset(m.flags())
		d.setByte(53, 2)
		d.setText(15, "rack.example")
		d.setNumber(51, 600)
		d.setAddrs(54, m.client())
		d.set(61, m.option(61))
		out = d.appendTo(out[:0], &m)
	}
	if n := testing.AllocsPerRun(100, round); n != 0 {
		t.Errorf("%v allocations for a packet, want none", n)
	}
}

func TestALongOptionIsWrittenInPieces(t *testing.T) {
	var m message
	if err := m.parse(raw("\xff")); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, 254, 255, 256, 510, 511, 700} {
		var d draft
		want := strings.Repeat("x", n)
		d.setText(43, want)
		d.set(82, []byte("last"))
		d.setByte(97, 1)
		b := d.appendTo(nil, &m)
		if len(b) != d.size() {
			t.Errorf("%d bytes are written, size said %d", len(b), d.size())
		}
		got, err := dhcpv4.FromBytes(b)
		if err != nil || string(got.Options[43]) != want || string(got.Options[82]) != "last" {
			t.Errorf("%d bytes are read back as %q, %v", n, got.Options[43], err)
		}
		if end := bytes.TrimRight(b, "\x00"); !bytes.HasSuffix(end, []byte("\x52\x04last\xff")) {
			t.Errorf("option 82 is not the last: %x", end)
		}
	}
}

// The library that the rest of the program uses reads the same out of a
// packet. It knows nothing of option overload, wants an end, and joins what
// several say of the relay.
func FuzzAMessageIsReadAsTheLibraryReadsIt(f *testing.F) {
	for _, name := range captures(f) {
		for _, p := range clientPackets(f, name) {
			f.Add(p)
		}
	}
	f.Add(overloaded("\x34\x01\x03\x0c\x01a\xff", "\x0c\x01b\xff", "\x0c\x01c\xff"))
	f.Add(raw("\x0c\x02ab\x35\x01\x01\x0c\x01c\x0c\x02de\xff"))
	f.Add(raw("\x52\x06\x05\x04\x0a\x58\x00\x01\x52\x06\x01\x04ge-7\xff"))
	f.Add(overloaded("\x34\x01\x01\x52\x06\x01\x04ge-7\xff", "\x52\x06\x05\x04\x0a\x58\x00\x01\xff", ""))
	var m message
	f.Fuzz(func(t *testing.T, b []byte) {
		err := m.parse(b)
		theirs, theirErr := dhcpv4.FromBytes(b)
		switch {
		case theirErr != nil, errors.Is(err, errForgedInfo):
			return
		case err != nil && m.overload() == 0:
			t.Fatalf("parse = %v, the library reads %v", err, theirs)
		case err != nil || m.overload() != 0:
			return
		}
		for code := range 256 {
			want, there := theirs.Options[byte(code)]
			if got := m.option(byte(code)); !bytes.Equal(got, want) || (got != nil) != there && len(want) > 0 {
				t.Errorf("option %d = %x, the library reads %x", code, got, want)
			}
		}
		if hw, ok := m.hardware(); ok && !bytes.Equal(theirs.ClientHWAddr, hw[:]) {
			t.Errorf("hardware = %x, the library reads %s", hw, theirs.ClientHWAddr)
		}
		for got, want := range map[string]net.IP{m.client().String(): theirs.ClientIPAddr, m.relay().String(): theirs.GatewayIPAddr} {
			if got != want.String() && !want.IsUnspecified() {
				t.Errorf("address = %s, the library reads %s", got, want)
			}
		}
	})
}
