package console

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxLine is where a line is cut that does not end.
const maxLine = 400

// maxControl is how long an escape sequence may be that is passed over.
const maxControl = 4 << 10

// A plainText makes lines of what was meant for a terminal: no control
// characters, no colours. Where the cursor is moved to another place, a new line
// begins.
type plainText struct {
	line    []rune
	at      int // where the next character goes
	state   plainState
	passed  int    // length of the sequence that is passed over
	partial []byte // of a character in UTF-8
}

type plainState int

const (
	inText plainState = iota
	inEscape
	inCharset // one more character
	inControl // CSI: until a letter
	inString  // OSC, DCS, …: until BEL or ESC \
	inStringEscape
)

// feed takes in bytes and returns the lines that they end.
func (p *plainText) feed(b []byte) []string {
	var lines []string
	emit := func() {
		lines = append(lines, strings.TrimRight(string(p.line), " "))
		p.line, p.at = p.line[:0], 0
	}
	for _, c := range b {
		if p.state != inText {
			p.pass(c, emit)
			continue
		}
		if c >= utf8.RuneSelf || len(p.partial) > 0 {
			p.many(c, emit)
			continue
		}
		p.one(rune(c), emit)
	}
	return lines
}

// rest is the line that has not ended yet.
func (p *plainText) rest() string { return strings.TrimRight(string(p.line), " ") }

// many collects a character of several bytes.
func (p *plainText) many(c byte, emit func()) {
	p.partial = append(p.partial, c)
	for len(p.partial) > 0 && utf8.FullRune(p.partial) {
		r, n := utf8.DecodeRune(p.partial)
		p.partial = p.partial[n:]
		p.one(r, emit)
		if p.state != inText { // an escape behind a torn character
			p.partial = p.partial[:0]
		}
	}
}

// one takes in a character.
func (p *plainText) one(r rune, emit func()) {
	switch {
	case r == '\x1b':
		p.state, p.passed = inEscape, 0
	case r == '\n':
		emit()
	case r == '\r':
		p.at = 0
	case r == '\b':
		p.at = max(0, p.at-1)
	case r == '\t':
		for {
			p.put(' ', emit)
			if p.at%8 == 0 {
				return
			}
		}
	case r == ' ' || unicode.IsPrint(r):
		p.put(r, emit)
	}
}

func (p *plainText) put(r rune, emit func()) {
	if p.at < len(p.line) {
		p.line[p.at] = r
	} else {
		p.line = append(p.line, r)
	}
	if p.at++; p.at >= maxLine {
		emit()
	}
}

// pass passes over an escape sequence, ECMA-48.
func (p *plainText) pass(c byte, emit func()) {
	if p.passed++; p.passed > maxControl {
		p.state = inText
		return
	}
	switch p.state {
	case inEscape:
		p.begin(c)
	case inCharset:
		p.state = inText
	case inControl:
		p.control(c, emit)
	case inString:
		switch c {
		case '\a':
			p.state = inText
		case '\x1b':
			p.state = inStringEscape
		}
	case inStringEscape:
		p.state = inString
		if c == '\\' {
			p.state = inText
		}
	case inText:
	}
}

func (p *plainText) begin(c byte) {
	switch c {
	case '[':
		p.state = inControl
	case ']', 'P', 'X', '^', '_':
		p.state = inString
	case '(', ')', '*', '+', '#', '%', ' ':
		p.state = inCharset
	case '\x1b':
	default:
		p.state = inText
	}
}

// control ends at a letter. One that moves the cursor up, down or anywhere ends
// the line too.
func (p *plainText) control(c byte, emit func()) {
	switch {
	case c == '\x1b':
		p.state = inEscape
	case c < 0x40 || c > 0x7e: // a parameter, or what should not be here
	default:
		p.state = inText
		if strings.IndexByte("HfABEFd", c) >= 0 && len(p.line) > 0 {
			emit()
		}
	}
}

// Plain returns the lines of what a machine wrote, the last one though it may
// not have ended.
func Plain(b []byte) []string {
	var p plainText
	lines := p.feed(b)
	if rest := p.rest(); rest != "" {
		lines = append(lines, rest)
	}
	return lines
}
