package main

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"github.com/rackstage/provision/fleet"
)

// A fault is one thing that is wrong in a file, with its place.
type fault struct {
	file, text, hint string
	line, column     int // 0: the file as a whole
	excerpt          string
}

// Error shows the place, the line with an arrow, and what to do.
func (f *fault) Error() string {
	var b strings.Builder
	b.WriteString(f.file)
	if f.line > 0 {
		fmt.Fprintf(&b, ":%d:%d", f.line, f.column)
	}
	fmt.Fprintf(&b, ": %s", f.text)
	if f.excerpt != "" {
		b.WriteString("\n" + f.excerpt)
	}
	if f.hint != "" {
		fmt.Fprintf(&b, "\n  hint: %s", f.hint)
	}
	return b.String()
}

func (d document) fault(line, column int, text, hint string) *fault {
	return &fault{file: d.name, line: line, column: column, text: text, hint: hint, excerpt: d.excerpt(line, column)}
}

// excerpt shows a line, two before it, and an arrow below the column.
func (d document) excerpt(line, column int) string {
	if line < 1 || line > len(d.line) {
		return ""
	}
	var b strings.Builder
	for n := max(1, line-2); n <= line; n++ {
		mark := " "
		if n == line {
			mark = ">"
		}
		text := strings.ReplaceAll(strings.TrimRight(d.line[n-1], "\r "), "\t", " ")
		fmt.Fprintf(&b, "%s %4d | %s\n", mark, n, clipLine(text))
	}
	fmt.Fprintf(&b, "       | %s^", strings.Repeat(" ", min(max(0, column-1), 160)))
	return b.String()
}

func clipLine(s string) string {
	r := []rune(s)
	if len(r) > 160 {
		return string(r[:160]) + "…"
	}
	return s
}

// explain turns an error of the YAML library into a fault.
func (d document) explain(err error, v any) error {
	if own, ok := errors.AsType[*fault](err); ok {
		return own
	}
	var known yaml.Error
	if !errors.As(err, &known) || known.GetToken() == nil {
		return d.fault(0, 0, firstLine(err.Error()), "")
	}
	at := known.GetToken()
	line, column := at.Position.Line, at.Position.Column
	var unknown *yaml.UnknownFieldError
	var mistyped *yaml.TypeError
	var misplaced *yaml.UnexpectedNodeTypeError
	switch {
	case errors.As(err, &unknown):
		keys := knownKeys(reflect.TypeOf(v), d.pathAt(line, column))
		return d.fault(line, column, fmt.Sprintf("unknown key %q", at.Value), suggest(at.Value, keys))
	case errors.As(err, &mistyped):
		return d.fault(line, column, fmt.Sprintf("%q is not %s", at.Value, kindWord(mistyped.DstType)), "")
	case errors.As(err, &misplaced):
		return d.fault(line, column, fmt.Sprintf("a %s stands where a %s is expected", nodeWord(misplaced.Actual), nodeWord(misplaced.Expected)), "")
	case strings.Contains(known.GetMessage(), "'\t' that cannot start any token"):
		return d.fault(line, column, "a tab indents this line", "indent with spaces")
	default:
		return d.fault(line, column, printable(firstLine(known.GetMessage())), "")
	}
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

func suggest(got string, have []string) string {
	if near := fleet.Nearest(got, have); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	if len(have) == 0 {
		return ""
	}
	return "known here are: " + strings.Join(have, ", ")
}

func kindWord(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.Slice:
		return "a list"
	case reflect.Map, reflect.Struct:
		return "a set of keys"
	default:
		return "a text"
	}
}

// nodeWord calls a kind of YAML by the word that people have for it.
func nodeWord(t ast.NodeType) string {
	switch t {
	case ast.SequenceType:
		return "list"
	case ast.MappingType, ast.MappingValueType:
		return "set of keys"
	case ast.StringType, ast.LiteralType:
		return "text"
	default:
		return t.YAMLName()
	}
}

// maxFaults is how many faults of a file are told.
const maxFaults = 20

// place turns errors about paths (see [fleet.Site.Validate]) into faults, in
// the order of the file.
func (d document) place(err error) error {
	faults := d.faults(err)
	slices.SortStableFunc(faults, func(a, b *fault) int { return cmp.Or(a.line-b.line, a.column-b.column) })
	var joined []error
	for i, f := range faults {
		if i == maxFaults {
			joined = append(joined, fmt.Errorf("… and %d more", len(faults)-i))
			break
		}
		f.excerpt = d.excerpt(f.line, f.column)
		joined = append(joined, f)
	}
	return errors.Join(joined...)
}

func (d document) faults(err error) (faults []*fault) {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range many.Unwrap() {
			faults = append(faults, d.faults(e)...)
		}
		return faults
	}
	e, ok := errors.AsType[*fleet.Error](err)
	if !ok {
		return []*fault{d.fault(0, 0, err.Error(), "")}
	}
	f := &fault{file: d.name, text: e.On, hint: e.Hint}
	f.line, f.column = d.locate(e.On)
	if e.Err != nil {
		f.text = e.Err.Error()
	}
	return []*fault{f}
}
