// Package archtest keeps the arrows between packages pointing down.
//
// [Check] reads the imports of every file, in its own process so that the
// test cache sees what it reads, and compares them with [Rules]. The rules of
// this program are in the test beside it; a package, or a library, that is
// not in them fails until somebody has said where it belongs.
package archtest

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Rules say who may import whom. A package is named by its folder. In lists
// "x/..." is x and everything below it, and "..." is everything.
type Rules struct {
	Module string
	// Allowed has a line for each package: which of ours it may import.
	// Test files may import any of ours that is not a Leaf.
	Allowed map[string][]string
	// Leaves are imported by nobody.
	Leaves []string
	// Holds may import any library: it does nothing but keep them in go.mod.
	Holds string
	// TestSupport is imported by test files and by other test support only.
	TestSupport []string
	// StdOnly packages import nothing but the standard library and ours.
	// Their tests may import more.
	StdOnly []string
	// OnlyIn has a line for each library (the longest that matches counts):
	// where it may be imported, test files included.
	OnlyIn map[string][]string
	// OnlyInTests are libraries for test files, of any package, and for test
	// support.
	OnlyInTests []string
}

// Check returns what in a tree breaks the rules, sorted.
func Check(tree fs.FS, r Rules) ([]string, error) {
	files, err := goFiles(tree)
	if err != nil {
		return nil, err
	}
	var wrong []string
	seen := map[string]bool{}
	for _, name := range files {
		imports, err := importsOf(tree, name)
		if err != nil {
			return nil, err
		}
		pkg := path.Dir(name)
		if !seen[pkg] && !listed(r.Allowed, pkg) {
			wrong = append(wrong, pkg+": a new package: say in internal/archtest what it may import")
		}
		seen[pkg] = true
		for _, imp := range imports {
			if why := r.judge(pkg, strings.HasSuffix(name, "_test.go"), imp); why != "" {
				wrong = append(wrong, fmt.Sprintf("%s imports %s: %s", name, imp, why))
			}
		}
	}
	for pkg := range r.Allowed {
		if !seen[pkg] {
			wrong = append(wrong, pkg+": is in the rules of internal/archtest, but not in the tree")
		}
	}
	slices.Sort(wrong)
	return wrong, nil
}

// judge returns why a file of a package may not import something, or "".
func (r Rules) judge(pkg string, test bool, imp string) string {
	switch ours, ok := strings.CutPrefix(imp, r.Module+"/"); {
	case ok:
		return r.judgeOurs(pkg, test, ours)
	case imp == r.Module || imp == "C":
		return "nobody may"
	case !strings.Contains(strings.Split(imp, "/")[0], "."):
		return "" // the standard library
	default:
		return r.judgeLibrary(pkg, test, imp)
	}
}

func (r Rules) judgeOurs(pkg string, test bool, ours string) string {
	switch {
	case ours == pkg:
		return "" // an external test
	case matches(r.Leaves, ours):
		return "nobody may"
	case test:
		return ""
	case matches(r.TestSupport, ours) && !matches(r.TestSupport, pkg):
		return "it is for tests"
	case !matches(r.Allowed[pkg], ours):
		return "not in the table of who may import whom"
	default:
		return ""
	}
}

func (r Rules) judgeLibrary(pkg string, test bool, imp string) string {
	if pkg == r.Holds {
		return ""
	}
	if matchesModule(r.OnlyInTests, imp) {
		if test || matches(r.TestSupport, pkg) {
			return ""
		}
		return "it is for tests"
	}
	if !test && matches(r.StdOnly, pkg) {
		return "this package imports the standard library only"
	}
	library := ""
	for l := range r.OnlyIn {
		if matchesModule([]string{l}, imp) && len(l) > len(library) {
			library = l
		}
	}
	switch {
	case library == "":
		return "a new library: say in internal/archtest where it belongs"
	case !matches(r.OnlyIn[library], pkg):
		return library + " is only in " + strings.Join(r.OnlyIn[library], ", ")
	default:
		return ""
	}
}

func listed(m map[string][]string, pkg string) bool {
	_, ok := m[pkg]
	return ok
}

// matches reports whether a package is in a list.
func matches(list []string, pkg string) bool {
	return slices.ContainsFunc(list, func(entry string) bool {
		tree, ok := strings.CutSuffix(entry, "...")
		if !ok {
			return entry == pkg
		}
		tree = strings.TrimSuffix(tree, "/")
		return tree == "" || pkg == tree || strings.HasPrefix(pkg, tree+"/")
	})
}

// matchesModule reports whether an import is of one of these modules.
func matchesModule(modules []string, imp string) bool {
	return slices.ContainsFunc(modules, func(m string) bool {
		return imp == m || strings.HasPrefix(imp, m+"/")
	})
}

// goFiles returns the names of all Go files in a module, whatever their build
// tags say. Folders that the go command leaves out are left out, and so are
// modules within the module.
func goFiles(tree fs.FS) ([]string, error) {
	var files []string
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !d.IsDir() {
			if strings.HasSuffix(name, ".go") {
				files = append(files, name)
			}
			return nil
		}
		base := path.Base(name)
		if name != "." && (base[0] == '.' || base[0] == '_' || base == "testdata" || name == "build" || base == "vendor" || base == "node_modules" || isModule(tree, name)) {
			return fs.SkipDir
		}
		return nil
	})
	return files, err
}

func isModule(tree fs.FS, dir string) bool {
	_, err := fs.Stat(tree, path.Join(dir, "go.mod"))
	return err == nil
}

func importsOf(tree fs.FS, name string) ([]string, error) {
	src, err := fs.ReadFile(tree, name)
	if err != nil {
		return nil, err
	}
	file, err := parser.ParseFile(token.NewFileSet(), name, src, parser.ImportsOnly)
	if err != nil {
		return nil, err
	}
	var imports []string
	for _, spec := range file.Imports {
		imp, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, fmt.Errorf("%s: import %s: %w", name, spec.Path.Value, err)
		}
		imports = append(imports, imp)
	}
	return imports, nil
}
