package templates

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"text/template"

	"github.com/goccy/go-yaml"

	"github.com/rackstage/provision/fleet"
)

//go:embed */family.yaml */*.tmpl
var files embed.FS

// A Family is a kind of operating system.
type Family struct {
	Name  string `yaml:"name"`
	Title string `yaml:"title"`
	Files []File `yaml:"files"`
}

// A File is one file on the disk of the new system. One that comes out empty
// is not written.
type File struct {
	Path     string `yaml:"path"`
	Template string `yaml:"template"`
	Mode     uint32 `yaml:"mode"`
}

// Families returns the names of all families.
func Families() []string {
	dirs, _ := fs.ReadDir(files, ".")
	var names []string
	for _, d := range dirs {
		names = append(names, d.Name())
	}
	return names
}

// Render returns the files that a new system of a family finds on its disk.
func Render(family string, d Data) ([]fleet.SeedFile, error) {
	f, err := readFamily(family)
	if err != nil {
		return nil, err
	}
	if err := d.check(); err != nil {
		return nil, fmt.Errorf("seed of family %s: %w", family, err)
	}
	t, err := template.New("").Funcs(functions()).Option("missingkey=error").ParseFS(files, family+"/*.tmpl")
	if err != nil {
		return nil, fmt.Errorf("read templates of family %s: %w", family, err)
	}
	var seed []fleet.SeedFile
	for _, file := range f.Files {
		var b bytes.Buffer
		if err := t.ExecuteTemplate(&b, file.Template, d); err != nil {
			return nil, fmt.Errorf("fill in %s/%s: %w", family, file.Template, err)
		}
		if b.Len() > 0 {
			seed = append(seed, fleet.SeedFile{Path: file.Path, Mode: file.Mode, Data: b.Bytes()})
		}
	}
	return seed, nil
}

func readFamily(name string) (Family, error) {
	if !slices.Contains(Families(), name) {
		return Family{}, &fleet.Error{
			Kind: fleet.NotFound, On: fmt.Sprintf("OS family %q", name), Err: fs.ErrNotExist,
			Hint: "known are: " + strings.Join(Families(), ", "),
		}
	}
	b, err := files.ReadFile(path.Join(name, "family.yaml"))
	if err != nil {
		return Family{}, err
	}
	var f Family
	if err := yaml.UnmarshalWithOptions(b, &f, yaml.Strict()); err != nil {
		return Family{}, fmt.Errorf("read %s/family.yaml: %w", name, err)
	}
	for _, file := range f.Files {
		if !path.IsAbs(file.Path) || path.Clean(file.Path) != file.Path || file.Mode == 0 || file.Mode > 0o777 {
			return Family{}, fmt.Errorf("%s/family.yaml: file %q with mode %o makes no sense", name, file.Path, file.Mode)
		}
	}
	return f, nil
}
