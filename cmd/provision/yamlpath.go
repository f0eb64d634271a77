package main

import (
	"reflect"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// A place is a step of a path into a document: a key, or an index.
type place struct {
	key   string
	index int // -1: it is a key
}

// parsePath reads "pools[0].stage".
func parsePath(s string) (path []place) {
	for _, part := range strings.FieldsFunc(s, func(r rune) bool { return r == '.' || r == '[' || r == ']' || r == '$' }) {
		if i, err := strconv.Atoi(part); err == nil {
			path = append(path, place{index: i})
			continue
		}
		path = append(path, place{key: part, index: -1})
	}
	return path
}

// pathAt is the path of the key at a position.
func (d document) pathAt(line, column int) []place {
	finder := &keyFinder{line: line, column: column}
	if d.root != nil {
		ast.Walk(finder, d.root)
	}
	return parsePath(finder.path)
}

type keyFinder struct {
	line, column int
	path         string
}

// Visit implements [ast.Visitor].
func (f *keyFinder) Visit(n ast.Node) ast.Visitor {
	if entry, ok := n.(*ast.MappingValueNode); ok {
		at := entry.Key.GetToken().Position
		if at.Line == f.line && at.Column == f.column {
			f.path = entry.Key.GetPath()
		}
	}
	return f
}

// knownKeys are the keys of the struct in which the last key of the path
// stands.
func knownKeys(t reflect.Type, path []place) []string {
	for _, p := range path[:max(0, len(path)-1)] {
		t = plainType(t)
		switch {
		case t.Kind() == reflect.Slice && p.index >= 0:
			t = t.Elem()
		case t.Kind() == reflect.Struct:
			field, ok := fieldOf(t, p.key)
			if !ok {
				return nil
			}
			t = field.Type
		default:
			return nil
		}
	}
	return keysOf(plainType(t))
}

func plainType(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

func fieldOf(t reflect.Type, key string) (reflect.StructField, bool) {
	for f := range t.Fields() {
		if yamlKey(f) == key {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

func keysOf(t reflect.Type) (keys []string) {
	if t.Kind() != reflect.Struct {
		return nil
	}
	for f := range t.Fields() {
		if key := yamlKey(f); key != "" && key != "-" {
			keys = append(keys, key)
		}
	}
	return keys
}

func yamlKey(f reflect.StructField) string {
	key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	return key
}

// locate finds where a path leads, or the nearest thing above it that exists:
// a key that is missing is shown at what it is missing from.
func (d document) locate(path string) (line, column int) {
	node := d.root
	if node == nil {
		return 0, 0
	}
	line, column = 1, 1
	for _, p := range parsePath(path) {
		var key ast.Node
		key, node = child(node, p)
		if key == nil {
			break
		}
		at := key.GetToken().Position
		if scalar, ok := node.(ast.ScalarNode); ok {
			at = scalar.GetToken().Position
		}
		line, column = at.Line, at.Column
	}
	return line, column
}

// child steps into a node. The first result is what to point at.
func child(n ast.Node, p place) (at, next ast.Node) {
	switch n := n.(type) {
	case *ast.MappingNode:
		for _, entry := range n.Values {
			if p.index < 0 && entry.Key.GetToken().Value == p.key {
				return entry.Key, entry.Value
			}
		}
	case *ast.MappingValueNode:
		if p.index < 0 && n.Key.GetToken().Value == p.key {
			return n.Key, n.Value
		}
	case *ast.SequenceNode:
		if p.index >= 0 && p.index < len(n.Values) {
			return firstToken(n.Values[p.index]), n.Values[p.index]
		}
	}
	return nil, nil
}

// firstToken is where an element of a list begins: at its first key, not at
// the colon that a mapping calls its own token.
func firstToken(n ast.Node) ast.Node {
	switch n := n.(type) {
	case *ast.MappingNode:
		if len(n.Values) > 0 {
			return n.Values[0].Key
		}
	case *ast.MappingValueNode:
		return n.Key
	}
	return n
}
