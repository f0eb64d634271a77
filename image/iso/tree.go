package iso

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
)

// A folder is one of an image.
type folder struct {
	name    string // as it is written
	parent  *folder
	folders []*folder
	files   []*file
	nr      uint16 // in the path table, from 1
	at      uint32 // sector
	sectors uint32
}

type file struct {
	File
	name string // as it is written
	at   uint32 // sector
}

// A tree is all folders and files.
type tree struct {
	root    *folder
	folders []*folder // the root first; those of a depth together, as path tables want them
	files   []*file   // in the order in which they were given
}

func newTree() *tree {
	root := &folder{name: "\x00"}
	root.parent = root
	return &tree{root: root}
}

// add puts a file into the tree.
func (t *tree) add(f File) error {
	if !nameShape.MatchString(f.Name) || slices.ContainsFunc(strings.Split(f.Name, "/"), func(s string) bool { return strings.Trim(s, ".") == "" }) {
		return fmt.Errorf("file name %q has more than lower-case letters, digits, dots, dashes and underscores, or is too long", f.Name)
	}
	if f.Size < 0 || f.Size > maxFile || f.Content == nil {
		return fmt.Errorf("file %s has %d bytes", f.Name, f.Size)
	}
	dir, base := path.Split(f.Name)
	at := t.root
	for part := range strings.SplitSeq(strings.Trim(dir, "/"), "/") {
		if part != "" {
			at = at.folder(strings.ToUpper(part))
		}
	}
	name := strings.ToUpper(base)
	if !strings.Contains(name, ".") {
		name += "." // ECMA-119 §7.5.1: it is always there
	}
	one := &file{File: f, name: name + ";1"}
	if slices.ContainsFunc(at.files, func(o *file) bool { return o.name == one.name }) {
		return fmt.Errorf("file %s is there twice", f.Name)
	}
	at.files = append(at.files, one)
	t.files = append(t.files, one)
	return nil
}

// folder returns the folder of a name, which is made when there is none.
func (d *folder) folder(name string) *folder {
	if i := slices.IndexFunc(d.folders, func(o *folder) bool { return o.name == name }); i >= 0 {
		return d.folders[i]
	}
	child := &folder{name: name, parent: d}
	d.folders = append(d.folders, child)
	return child
}

// order numbers the folders: depth by depth, and within one by their parents
// and names (ECMA-119 §6.9.1).
func (t *tree) order() {
	t.folders = nil
	for level := []*folder{t.root}; len(level) > 0; {
		var next []*folder
		for _, d := range level {
			t.folders = append(t.folders, d)
			d.nr = uint16(len(t.folders))
			slices.SortFunc(d.folders, func(a, b *folder) int { return strings.Compare(a.name, b.name) })
			slices.SortFunc(d.files, func(a, b *file) int { return cmp.Compare(a.name, b.name) })
			next = append(next, d.folders...)
		}
		level = next
	}
}

// find returns the file of a name.
func (t *tree) find(name string) (*file, error) {
	for _, f := range t.files {
		if f.Name == name {
			return f, nil
		}
	}
	return nil, fmt.Errorf("there is no file %q to boot", name)
}
