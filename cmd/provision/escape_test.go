package main

import (
	"fmt"
	"strings"
	"testing"
)

func said(strokes []stroke) string {
	var out strings.Builder
	for _, s := range strokes {
		fmt.Fprintf(&out, "%q", s.keys)
		if s.escape != escapeNone {
			fmt.Fprintf(&out, "<%c>", s.escape)
		}
	}
	return out.String()
}

func TestEscapesAreThoseOfSSH(t *testing.T) {
	tests := map[string]struct{ typed, want string }{
		"at the very beginning":            {"~.", `""<.>`},
		"after Enter":                      {"ls\r~.", `"ls\r"<.>`},
		"after a line feed":                {"ls\n~.", `"ls\n"<.>`},
		"in the middle of a line":          {"ls ~.", `"ls ~."`},
		"a break":                          {"\r~Bx", `"\r"<B>"x"`},
		"help, and then the end":           {"\r~?~.", `"\r"<?>""<.>`},
		"the tilde itself":                 {"\r~~.", `"\r~."`},
		"the tilde twice, and a point":     {"\r~~~.", `"\r~~."`},
		"something else after the tilde":   {"\r~x~.", `"\r~x~."`},
		"a home directory":                 {"cd ~/src\r", `"cd ~/src\r"`},
		"a tilde and Enter":                {"\r~\r~.", `"\r~\r"<.>`},
		"a tilde that waits":               {"\r~", `"\r"`},
		"Ctrl-C is for the machine":        {"\x03\r~.", `"\x03\r"<.>`},
		"what follows the end is not lost": {"~.ls", `""<.>"ls"`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := said(new(keyboard).read([]byte(tt.typed))); got != tt.want {
				t.Errorf("read(%q) = %s, want %s", tt.typed, got, tt.want)
			}
			var k keyboard
			var single []stroke
			for i := range len(tt.typed) {
				single = append(single, k.read([]byte{tt.typed[i]})...)
			}
			if got, want := strings.ReplaceAll(said(single), `""`, ``), strings.ReplaceAll(tt.want, `""`, ``); got != want {
				t.Errorf("key by key: %s, want %s", got, want)
			}
		})
	}
}

func FuzzEscapes(f *testing.F) {
	f.Add([]byte("ls\r~?~B~~x~.\x03"))
	f.Fuzz(func(t *testing.T, typed []byte) {
		var k keyboard
		n := 0
		for _, s := range k.read(typed) {
			n += len(s.keys)
			if s.escape != escapeNone {
				n += 2
			}
		}
		if k.tilde {
			n++
		}
		if doubled := strings.Count(string(typed), "~~"); n > len(typed) || n < len(typed)-doubled {
			t.Fatalf("%d of %d keys are left", n, len(typed))
		}
	})
}
