package ipxescripts

import (
	"fmt"
	"strings"
	"text/template/parse"
)

// A script is a file, taken apart once: filling it in is appending. It
// understands as much of text/template as the scripts need:
//
//	{{.Title}}                          a fact, escaped as the table says
//	{{range .Args}} {{.}}{{end}}        each of a list
//	{{if .Shell}}…{{end}}               what is there only when a fact says so
//
// Anything else is an error when the scripts are read.
type script []piece

// A piece puts one part of a script behind what is there.
type piece func(dst []byte, f *facts) []byte

// facts are all that scripts can ask for. Each script is given some of them.
type facts struct {
	title, server, kernel, initrd, base, path, reason string
	args                                              []string
	menu                                              Menu
}

// fields says how each fact is written. [Escape] and nothing else makes it
// safe, so that no script can forget it.
func fields() map[string]piece {
	word := func(of func(*facts) string) piece {
		return func(dst []byte, f *facts) []byte { return appendWord(dst, of(f)) }
	}
	text := func(of func(*facts) string) piece {
		return func(dst []byte, f *facts) []byte { return appendText(dst, of(f)) }
	}
	return map[string]piece{
		"Title":  text(func(f *facts) string { return f.title }),
		"Reason": text(func(f *facts) string { return f.reason }),
		"Server": word(func(f *facts) string { return f.server }),
		"Kernel": word(func(f *facts) string { return f.kernel }),
		"Initrd": word(func(f *facts) string { return f.initrd }),
		"Base":   word(func(f *facts) string { return f.base }),
		"Path":   word(func(f *facts) string { return f.path }),

		"MAC":     word(func(f *facts) string { return f.menu.MAC }),
		"Pool":    text(func(f *facts) string { return f.menu.Pool }),
		"State":   text(func(f *facts) string { return f.menu.State }),
		"Status":  text(func(f *facts) string { return f.menu.Status }),
		"Next":    text(func(f *facts) string { return f.menu.Next }),
		"URL":     word(func(f *facts) string { return f.menu.URL }),
		"MemTest": word(func(f *facts) string { return f.menu.MemTest }),
	}
}

// conditions are what {{if}} can ask.
func conditions() map[string]func(*facts) bool {
	return map[string]func(*facts) bool{
		"MemTest": func(f *facts) bool { return f.menu.MemTest != "" },
		"Enrol":   func(f *facts) bool { return f.menu.Enrol },
		"Rescue":  func(f *facts) bool { return f.menu.Rescue },
		"Shell":   func(f *facts) bool { return f.menu.Shell },
	}
}

// compile takes a script apart. Comments are for us, not for machines.
func compile(name, text string) (script, error) {
	var code strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "# ") {
			code.WriteString(line)
		}
	}
	text = code.String()
	trees, err := parse.Parse(name, text, "", "")
	if err != nil {
		return nil, err
	}
	return compileList(name, trees[name].Root)
}

func compileList(name string, list *parse.ListNode) (script, error) {
	var s script
	for _, node := range list.Nodes {
		p, err := compileNode(name, node)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", name, node, err)
		}
		s = append(s, p)
	}
	return s, nil
}

func compileNode(name string, node parse.Node) (piece, error) {
	switch n := node.(type) {
	case *parse.TextNode:
		text := string(n.Text)
		return func(dst []byte, _ *facts) []byte { return append(dst, text...) }, nil
	case *parse.ActionNode:
		p, ok := fields()[fieldOf(n.Pipe)]
		if !ok {
			return nil, fmt.Errorf("there is no such fact")
		}
		return p, nil
	case *parse.IfNode:
		holds, ok := conditions()[fieldOf(n.Pipe)]
		if !ok || n.ElseList != nil {
			return nil, fmt.Errorf("there is no such condition")
		}
		inner, err := compileList(name, n.List)
		return func(dst []byte, f *facts) []byte {
			if holds(f) {
				return inner.append(dst, f)
			}
			return dst
		}, err
	case *parse.RangeNode:
		return compileArgs(n)
	default:
		return nil, fmt.Errorf("a script cannot do this")
	}
}

// compileArgs takes {{range .Args}}BEFORE{{.}}{{end}}, with any text before.
func compileArgs(n *parse.RangeNode) (piece, error) {
	nodes := n.List.Nodes
	if fieldOf(n.Pipe) != "Args" || n.ElseList != nil || len(nodes) != 2 || nodes[1].String() != "{{.}}" {
		return nil, fmt.Errorf("only {{range .Args}} {{.}}{{end}} is known")
	}
	before := nodes[0].String()
	return func(dst []byte, f *facts) []byte {
		for _, arg := range f.args {
			dst = append(append(dst, before...), arg...) // [plainArg] holds for each
		}
		return dst
	}, nil
}

// fieldOf returns the name of the only field of a pipe, "" when it is more
// than that.
func fieldOf(p *parse.PipeNode) string {
	if p == nil || len(p.Decl) != 0 || len(p.Cmds) != 1 || len(p.Cmds[0].Args) != 1 {
		return ""
	}
	if f, ok := p.Cmds[0].Args[0].(*parse.FieldNode); ok && len(f.Ident) == 1 {
		return f.Ident[0]
	}
	return ""
}

func (s script) append(dst []byte, f *facts) []byte {
	for _, p := range s {
		dst = p(dst, f)
	}
	return dst
}
