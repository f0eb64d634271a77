package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

const (
	maxYAML  = 1 << 20 // bytes of a file
	maxDepth = 32      // nesting; a parser that recurses must not be led deeper
)

// A document is one YAML file, kept so that what is wrong in it can be shown
// in place.
type document struct {
	name string
	src  []byte
	line []string // of src
	root ast.Node // nil when the file is empty
}

// readDocument parses a file and decodes it strictly into v, a pointer to a
// struct. Whatever is wrong comes back as a [fault].
func readDocument(name string, src []byte, v any) (document, error) {
	d := document{name: name, src: src, line: strings.Split(string(src), "\n")}
	if err := d.checkShape(); err != nil {
		return d, err
	}
	if err := d.parse(); err != nil {
		return d, d.explain(err, v)
	}
	if d.root == nil {
		return d, nil
	}
	if err := d.decode(v); err != nil {
		return d, d.explain(err, v)
	}
	return d, nil
}

func (d *document) parse() (err error) {
	defer surviveYAML(&err)
	file, err := parser.ParseBytes(d.src, 0)
	if err != nil {
		return err
	}
	for i, doc := range file.Docs {
		if i > 0 {
			return d.fault(tokenLine(doc.Start), 1, "a second document begins here", "keep one document in the file")
		}
		if _, comment := doc.Body.(*ast.CommentGroupNode); !comment {
			d.root = doc.Body
		}
	}
	return nil
}

func tokenLine(t *token.Token) int {
	if t == nil || t.Position == nil {
		return 0
	}
	return t.Position.Line
}

func (d *document) decode(v any) (err error) {
	defer surviveYAML(&err)
	return yaml.NodeToValue(d.root, v, yaml.Strict())
}

// surviveYAML turns a panic of the YAML library into an error: fuzzing finds
// inputs, such as tags on empty values, that it does not survive.
func surviveYAML(err *error) {
	if recover() != nil {
		*err = errors.New("this is no YAML that can be read")
	}
}

// checkShape refuses what a parser should not be given: files that are too
// large, are no text, or are nested like a bomb.
func (d document) checkShape() error {
	switch {
	case len(d.src) > maxYAML:
		return d.fault(0, 0, fmt.Sprintf("the file has %s; at most 1 MiB is read", bytesOf(int64(len(d.src)))), "")
	case !utf8.Valid(d.src):
		return d.fault(0, 0, "the file is not UTF-8 text", "")
	}
	depth := 0
	for i, line := range d.line {
		for _, r := range line {
			switch r {
			case '[', '{':
				depth++
			case ']', '}':
				depth = max(0, depth-1)
			}
		}
		dashes := len(leadingDashes.FindString(line)) / 2
		if depth > maxDepth || dashes > maxDepth || indent(line) > 8*maxDepth {
			return d.fault(i+1, 1, "nested too deep", "")
		}
	}
	return nil
}

var leadingDashes = regexp.MustCompile(`^\s*([-?:]\s+)*`)

func indent(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }
