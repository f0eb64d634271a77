package image

import (
	"bufio"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A moduleSet says which kernel modules to take: paths below kernel/, files or
// folders; leave wins over take.
type moduleSet struct {
	take, leave []string
}

// parseModuleSet reads the format of ramdisk/modules.txt.
func parseModuleSet(text string) moduleSet {
	var set moduleSet
	for line := range strings.SplitSeq(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "!"); ok {
			set.leave = append(set.leave, "kernel/"+rest)
			continue
		}
		if line != "" {
			set.take = append(set.take, "kernel/"+line)
		}
	}
	return set
}

func (s moduleSet) has(module string) bool {
	below := func(p string) bool { return module == p || strings.HasPrefix(module, p+"/") }
	return slices.ContainsFunc(s.take, below) && !slices.ContainsFunc(s.leave, below)
}

// pick returns the modules of the set and everything that they depend on,
// sorted; deps is a parsed modules.dep.
func (s moduleSet) pick(deps map[string][]string) []string {
	picked := map[string]bool{}
	for module, needs := range deps {
		if !s.has(module) {
			continue
		}
		picked[module] = true
		for _, n := range needs {
			picked[n] = true
		}
	}
	return slices.Sorted(maps.Keys(picked))
}

// parseModulesDep reads a modules.dep, in which depmod has already written out
// indirect dependencies.
func parseModulesDep(text string) map[string][]string {
	deps := map[string][]string{}
	lines := bufio.NewScanner(strings.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		module, needs, ok := strings.Cut(lines.Text(), ":")
		if ok {
			deps[module] = strings.Fields(needs)
		}
	}
	return deps
}

// pickModules copies the modules of the set for one kernel from one tree to
// another (both hold lib/modules/VERSION) and indexes them there. It returns
// how many there are.
func pickModules(ctx context.Context, from, to, version string, set moduleSet) (int, error) {
	if _, err := run(ctx, "depmod", "--basedir", from, version); err != nil {
		return 0, err
	}
	src, dst := filepath.Join(from, "lib/modules", version), filepath.Join(to, "lib/modules", version)
	text, err := os.ReadFile(filepath.Join(src, "modules.dep"))
	if err != nil {
		return 0, fmt.Errorf("read module dependencies: %w", err)
	}
	picked := set.pick(parseModulesDep(string(text)))
	for _, name := range append(slices.Clone(picked), "modules.builtin", "modules.builtin.modinfo", "modules.order") {
		if err := copyFile(filepath.Join(src, name), filepath.Join(dst, name)); err != nil {
			return 0, fmt.Errorf("copy module: %w", err)
		}
	}
	if _, err := run(ctx, "depmod", "--basedir", to, version); err != nil {
		return 0, err
	}
	return len(picked), dropModuleIndexes(dst)
}

// dropModuleIndexes removes what only kmod's own tools read: the agent reads
// the text files.
func dropModuleIndexes(dir string) error {
	names, err := filepath.Glob(filepath.Join(dir, "modules.*"))
	if err != nil {
		return fmt.Errorf("find module indexes: %w", err)
	}
	keep := []string{"modules.dep", "modules.alias", "modules.builtin", "modules.softdep"}
	for _, name := range names {
		if slices.Contains(keep, filepath.Base(name)) {
			continue
		}
		if err := os.Remove(name); err != nil {
			return fmt.Errorf("drop module index: %w", err)
		}
	}
	return nil
}

// kernelVersion is the only kernel in a tree.
func kernelVersion(tree string) (string, error) {
	found, err := fs.ReadDir(os.DirFS(tree), "lib/modules")
	if err != nil {
		return "", fmt.Errorf("find kernel: %w", err)
	}
	if len(found) != 1 {
		return "", fmt.Errorf("find kernel: %s/lib/modules has %d folders, want 1", tree, len(found))
	}
	return found[0].Name(), nil
}
