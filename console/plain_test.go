package console

import (
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
)

func TestPlainTextHasNothingOfATerminalLeft(t *testing.T) {
	tests := map[string]struct {
		in   string
		want []string
	}{
		"lines":                          {"one\r\ntwo\nthree", []string{"one", "two", "three"}},
		"colours":                        {"[\x1b[0;32m  OK  \x1b[0m] Started \x1b[1mSSH\x1b[m\n", []string{"[  OK  ] Started SSH"}},
		"a line that is written again":   {"10 %\r20 %\r100 %\n", []string{"100 %"}},
		"backspaces":                     {"pasx\bsword\n", []string{"password"}},
		"tabulators":                     {"a\tb\n", []string{"a       b"}},
		"a menu that moves the cursor":   {"\x1b[2J\x1b[1;1HSetup\x1b[3;5HBoot order\x1b[4;5HExit", []string{"Setup", "Boot order", "Exit"}},
		"a window title":                 {"\x1b]0;root@n1\adone\n\x1b]2;x\x1b\\more\n", []string{"done", "more"}},
		"device control, privacy":        {"\x1bPq#0\x1b\\a\x1b^secret\x1b\\b\x1b_x\x1b\\c\n", []string{"abc"}},
		"another character set":          {"\x1b(0lqqk\x1b(B\n", []string{"lqqk"}},
		"text in UTF-8":                  {"Größe \xe2\x9c\x93\n", []string{"Größe ✓"}},
		"what is no text":                {"a\xff\xfeb\x00\x01\n", []string{"a��b"}},
		"eight-bit control characters":   {"a\xc2\x9b31mb\n", []string{"a31mb"}},
		"letters that turn the line":     {"abc\u202edef\u2066\n", []string{"abcdef"}},
		"an escape in the middle of one": {"a\xe2\x1b[31mb\n", []string{"a\ufffdb"}},
		"a sequence that does not end":   {"a\x1b]" + strings.Repeat("x", maxControl) + "b\n", []string{"ab"}},
		"a line that does not end":       {strings.Repeat("y", 2*maxLine+1), []string{strings.Repeat("y", maxLine), strings.Repeat("y", maxLine), "y"}},
		"nothing":                        {"", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, Plain([]byte(tt.in))); diff != "" {
				t.Error(diff)
			}
			var p plainText // the same, byte by byte
			var got []string
			for i := range len(tt.in) {
				got = append(got, p.feed([]byte{tt.in[i]})...)
			}
			if rest := p.rest(); rest != "" {
				got = append(got, rest)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error("byte by byte: " + diff)
			}
		})
	}
}

func FuzzPlainText(f *testing.F) {
	f.Add([]byte("\x1b[0;32m  OK  \x1b[0m] Started\r\n\x1b]0;t\a\x1b(0\xe2\x9c\x93\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, line := range Plain(b) {
			if n := len([]rune(line)); n > maxLine {
				t.Fatalf("a line of %d characters", n)
			}
			for _, r := range line {
				if r != '\ufffd' && !unicode.IsPrint(r) {
					t.Fatalf("%q has %U in it", line, r)
				}
			}
		}
	})
}

func TestSecretsAreMasked(t *testing.T) {
	tests := map[string]string{
		"Command line: console=ttyS0 provision.ticket=abc-DEF_1.2 quiet": "Command line: console=ttyS0 provision.ticket=[hidden] quiet",
		"docker swarm join --token SWMTKN-1-3pu6hs-9xk2 10.0.0.1:2377":   "docker swarm join --token SWMTKN-1-[hidden] 10.0.0.1:2377",
		"nothing to hide": "nothing to hide",
	}
	for in, want := range tests {
		if got := string(mask([]byte(in))); got != want {
			t.Errorf("mask(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestGarbageIsToldFromText(t *testing.T) {
	tests := map[string]struct {
		piece string
		want  bool
	}{
		"a kernel":                  {"[    1.234567] usb 1-1: new high-speed USB device\r\n", false},
		"another alphabet":          {"Загрузка системы завершена\r\n", false},
		"a menu":                    {"\x1b[1;1H\x1b[0;37;44m\xc9\xcd\xcd\xcd\xbb Setup Utility \xba Boot \xba Save and exit \x1b[0m", false},
		"the wrong speed":           {"\x00\xfe\x80\xf8\x00x\x86\xe6\x1e\xff\x00\xe0", true},
		"a line that nobody drives": {"\x00\x00\x00\x00", true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var g garbage
			for range 1 << 10 {
				if full, bad := g.write([]byte(tt.piece)); full {
					if bad != tt.want {
						t.Errorf("garbage: %t, want %t", bad, tt.want)
					}
					return
				}
			}
			t.Error("the window is never full")
		})
	}
}

func TestARingKeepsTheLastBytes(t *testing.T) {
	var r ring
	var all []byte
	for i := range 500 {
		piece := []byte(strings.Repeat(string(rune('a'+i%26)), i))
		r.write(piece)
		all = append(all, piece...)
		if want := all[max(0, len(all)-ringSize):]; string(r.bytes()) != string(want) {
			t.Fatalf("after %d bytes the ring has other bytes than the last", len(all))
		}
	}
	r.write(make([]byte, 3*ringSize+5))
	if len(r.bytes()) != ringSize {
		t.Errorf("the ring has %d bytes", len(r.bytes()))
	}
}
