package ipxescripts

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/template"
	"text/template/parse"
)

// A Fact is what a machine or site.yaml said. Wherever a template prints it,
// it is escaped; compared, it is what it is.
type Fact string

// String implements fmt.Stringer, which text/template asks.
func (f Fact) String() string { return string(appendText(nil, string(f))) }

// A URL is made by us, of checked parts and of what iPXE fills in: it is
// printed as it is.
type URL string

// Facts are what custom scripts can ask for.
type Facts struct {
	Name, MAC, UUID           Fact
	Stage, Pool, Role, State  Fact
	Vendor, Product, Serial   Fact
	Address, Server, Platform Fact // platform: bios or efi

	// The following are URLs for iPXE, and for GRUB names of files.
	Files Fact // the folder of public boot files, with a slash at its end
	Agent URL  // the script that boots our agent: where most custom scripts end
	Local URL  // the script that boots from disk

	// Private returns a URL that works once, for a file of the server's folder
	// "private".
	Private func(name string) (string, error)
}

// A Custom is a script of the operator's, for machines of a pool or for one.
type Custom struct{ t *template.Template }

// Limits of custom scripts.
const (
	maxSource = 64 << 10
	maxScript = 256 << 10 // iPXE holds it in memory
)

// Compile reads a custom script of iPXE's. Whatever is wrong with it is said
// here, not to a machine that boots: it is filled in twice, with facts and
// without.
func Compile(name, source string) (*Custom, error) {
	if !strings.HasPrefix(source, "#!ipxe\n") {
		return nil, errors.New("its first line is not #!ipxe: iPXE would not take it as a script")
	}
	return compileCustom(name, source)
}

// CompileGRUB reads one of GRUB's. Facts are written as for iPXE: what is left
// of them means nothing to GRUB either, be it in quotes or not.
func CompileGRUB(name, source string) (*Custom, error) {
	if strings.HasPrefix(source, "#!ipxe") {
		return nil, errors.New("it is a script of iPXE's, which GRUB cannot read")
	}
	return compileCustom(name, source)
}

func compileCustom(name, source string) (*Custom, error) {
	if len(source) > maxSource {
		return nil, fmt.Errorf("it has %d bytes, at most %d are taken", len(source), maxSource)
	}
	t, err := template.New(name).Option("missingkey=error").Funcs(functions(Facts{})).Parse(source)
	if err != nil {
		return nil, err
	}
	for _, part := range t.Templates() {
		if part.Name() != name {
			return nil, fmt.Errorf("define %q: a script is one template", part.Name())
		}
	}
	if err := checkNode(t.Root); err != nil {
		return nil, err
	}
	c := &Custom{t}
	for _, f := range []Facts{{}, example()} {
		f.Private = func(string) (string, error) { return "http://192.0.2.1/boot/t/x", nil }
		if _, err := c.Render(f); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func example() Facts {
	return Facts{
		Name: "prd-01", MAC: "52:54:00:12:34:56", UUID: "9707b47b-0000-4000-8000-000000000001", Stage: "prd", Pool: "prd", Role: "worker",
		State: "ready", Vendor: "QEMU", Product: "Standard PC", Serial: "S1", Address: "192.0.2.2", Server: "192.0.2.1", Platform: "efi",
		Files: "http://192.0.2.1/boot/", Agent: "http://192.0.2.1/boot/ipxe", Local: "http://192.0.2.1/boot/ipxe",
	}
}

// functions are all that templates can call, beside eq, ne, and, or and not.
func functions(f Facts) template.FuncMap {
	return template.FuncMap{
		"private": func(name string) (Fact, error) {
			if f.Private == nil {
				return "", errors.New("private files are not served here")
			}
			url, err := f.Private(name)
			return Fact(url), err
		},
		"hexhyp": func(mac Fact) Fact { return Fact(strings.ReplaceAll(string(mac), ":", "-")) },
		"lower":  func(s Fact) Fact { return Fact(strings.ToLower(string(s))) },
		"hasPrefix": func(s Fact, prefix string) bool {
			return strings.HasPrefix(string(s), prefix)
		},
	}
}

var allowed = map[string]bool{
	"eq": true, "ne": true, "and": true, "or": true, "not": true,
	"private": true, "hexhyp": true, "lower": true, "hasPrefix": true,
}

// checkNode refuses what a script does not need and could harm the server:
// loops, and the functions that print whatever they are given.
func checkNode(node parse.Node) error {
	switch n := node.(type) {
	case *parse.ListNode:
		if n == nil {
			return nil
		}
		for _, inner := range n.Nodes {
			if err := checkNode(inner); err != nil {
				return err
			}
		}
		return nil
	case *parse.TextNode, *parse.CommentNode:
		return nil
	case *parse.ActionNode:
		return checkPipe(n.Pipe)
	case *parse.IfNode:
		return errors.Join(checkPipe(n.Pipe), checkNode(n.List), checkNode(n.ElseList))
	default:
		return fmt.Errorf("%s: only facts, functions and if are known", node)
	}
}

func checkPipe(p *parse.PipeNode) error {
	for _, cmd := range p.Cmds {
		for _, arg := range cmd.Args {
			switch a := arg.(type) {
			case *parse.IdentifierNode:
				if !allowed[a.Ident] {
					return fmt.Errorf("%s: known are eq, ne, and, or, not, private, hexhyp, lower, hasPrefix", a.Ident)
				}
			case *parse.PipeNode:
				if err := checkPipe(a); err != nil {
					return err
				}
			case *parse.FieldNode, *parse.StringNode, *parse.BoolNode:
			default:
				return fmt.Errorf("%s: only facts, functions and texts are known", arg)
			}
		}
	}
	return nil
}

// PrivateFiles returns the private files that a script names in so many words,
// whether the machine at hand would be sent there or not.
func (c *Custom) PrivateFiles() map[string]bool {
	names := map[string]bool{}
	privateIn(c.t.Root, names)
	return names
}

func privateIn(node parse.Node, names map[string]bool) {
	switch n := node.(type) {
	case *parse.ListNode:
		if n == nil {
			return
		}
		for _, inner := range n.Nodes {
			privateIn(inner, names)
		}
	case *parse.ActionNode:
		privateIn(n.Pipe, names)
	case *parse.IfNode:
		privateIn(n.Pipe, names)
		privateIn(n.List, names)
		privateIn(n.ElseList, names)
	case *parse.PipeNode:
		for _, cmd := range n.Cmds {
			privateIn(cmd, names)
		}
	case *parse.CommandNode:
		for i, arg := range n.Args {
			if f, ok := n.Args[0].(*parse.IdentifierNode); ok && i > 0 && f.Ident == "private" {
				if text, ok := arg.(*parse.StringNode); ok {
					names[text.Text] = true
				}
			}
			privateIn(arg, names)
		}
	}
}

// Render fills a script in for a machine.
func (c *Custom) Render(f Facts) ([]byte, error) {
	t, err := c.t.Clone()
	if err != nil {
		return nil, err
	}
	var out bounded
	if err := t.Funcs(functions(f)).Execute(&out, f); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// A bounded buffer holds as much as a machine takes.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxScript {
		return 0, fmt.Errorf("the script is longer than %d bytes: %w", maxScript, io.ErrShortWrite)
	}
	return b.Buffer.Write(p)
}
