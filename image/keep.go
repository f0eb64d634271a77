package image

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A keptTree is a tree of installed packages in the cache, before anything of
// a particular agent is in it. Installing takes a minute, copying seconds, and
// the agent changes more often than Debian.
type keptTree struct {
	dir string
}

// keptTree is where the tree of this build's packages is, or would be. Its name
// changes with anything that it depends on: the signed package lists, our list
// of packages, and the files that are there while they are installed.
func (b *debianBuild) keptTree() (keptTree, error) {
	h := sha256.New()
	fmt.Fprintln(h, b.lists, mmdebstrapArgs(nil, ""), b.sources, diskDrivers)
	err := fs.WalkDir(debianFiles, "debian", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasPrefix(name, "debian/early/") && name != "debian/packages.txt" {
			return err
		}
		content, err := debianFiles.ReadFile(name)
		fmt.Fprintf(h, "%s %d %s\n", name, len(content), content)
		return err
	})
	return keptTree{filepath.Join(b.cache, fmt.Sprintf("tree-%.8x", h.Sum(nil)))}, err
}

// copyTo lays out the kept tree for a build, and says whether there was one.
func (k keptTree) copyTo(ctx context.Context, b *debianBuild) bool {
	began, err := os.ReadFile(filepath.Join(k.dir, "began"))
	if err != nil {
		return false
	}
	b.began, err = time.Parse(time.RFC3339, string(began))
	if err != nil {
		return false
	}
	if _, err := run(ctx, "cp", "-a", "--reflink=auto", filepath.Join(k.dir, "tree"), b.tree); err != nil {
		os.RemoveAll(b.tree)
		return false
	}
	return true
}

// keep puts a copy of the build's tree into the cache in place of older ones.
func (k keptTree) keep(ctx context.Context, b *debianBuild) error {
	old, err := filepath.Glob(filepath.Join(b.cache, "tree-*"))
	if err != nil {
		return fmt.Errorf("find kept trees: %w", err)
	}
	for _, dir := range old {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove kept tree: %w", err)
		}
	}
	work := fmt.Sprintf("%s.%d.tmp", k.dir, os.Getpid())
	if err := os.Mkdir(work, 0o755); err != nil {
		return fmt.Errorf("keep tree: %w", err)
	}
	if _, err := run(ctx, "cp", "-a", "--reflink=auto", b.tree, filepath.Join(work, "tree")); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(work, "began"), []byte(b.began.UTC().Format(time.RFC3339)), 0o644); err != nil {
		return fmt.Errorf("keep tree: %w", err)
	}
	if err := os.Rename(work, k.dir); err != nil {
		return fmt.Errorf("keep tree: %w", err)
	}
	return nil
}

// listsDigest names the state of the package lists: the signed files from which
// all the rest follows.
func (a aptRoot) listsDigest() (string, error) {
	names, err := filepath.Glob(filepath.Join(a.dir, "lists", "*Release"))
	if err != nil {
		return "", fmt.Errorf("read package lists: %w", err)
	}
	slices.Sort(names)
	h := sha256.New()
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			return "", fmt.Errorf("read package lists: %w", err)
		}
		fmt.Fprintf(h, "%s %d %s\n", filepath.Base(name), len(content), content)
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}
