package main

// An escape is what a person asks the terminal for, and not the machine.
type escape byte

// The escapes of ssh, as far as a serial console has them.
const (
	escapeNone  escape = 0
	escapeLeave escape = '.'
	escapeBreak escape = 'B'
	escapeHelp  escape = '?'
)

const escapeHelpText = `
Supported escape sequences, right after Enter:
  ~.   leave the console
  ~B   send a break
  ~?   this message
  ~~   send the escape character by typing it twice
`

// A keyboard finds ssh's escape sequences in what is typed: a tilde counts only
// at the beginning of a line.
type keyboard struct {
	inLine bool // something was typed since the last Enter
	tilde  bool // one waits for what follows it
}

// A stroke is keys for the machine, and the escape that follows them.
type stroke struct {
	keys   []byte
	escape escape
}

// read takes in what was typed.
func (k *keyboard) read(typed []byte) []stroke {
	var strokes []stroke
	var keys []byte
	for _, c := range typed {
		if !k.tilde {
			if c == '~' && !k.inLine {
				k.tilde = true
				continue
			}
			keys = append(keys, c)
			k.inLine = c != '\r' && c != '\n'
			continue
		}
		k.tilde = false
		switch e := escape(c); e {
		case escapeLeave, escapeBreak, escapeHelp:
			strokes = append(strokes, stroke{keys, e})
			keys = nil // and the line begins still
		case '~':
			keys = append(keys, '~')
			k.inLine = true
		default:
			keys = append(keys, '~', c)
			k.inLine = c != '\r' && c != '\n'
		}
	}
	if len(keys) > 0 {
		strokes = append(strokes, stroke{keys, escapeNone})
	}
	return strokes
}
