package image

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// makeRoot makes the root file system out of the tree.
//
// mke2fs can do so by itself (-d), but takes files in the order in which the
// host's file system lists them and copies inode change times, which nobody can
// set. So mke2fs makes an empty file system, and debugfs fills it by a script
// of ours, sorted, with its clock stopped.
func (b *debianBuild) makeRoot(ctx context.Context) error {
	script, total, err := fillScript(b.tree, b.began)
	if err != nil {
		return err
	}
	name := b.part("root.img")
	if err := makeHole(name, rootBytes(total)); err != nil {
		return err
	}
	clock := []string{fmt.Sprintf("E2FSPROGS_FAKE_TIME=%d", epoch.Unix())}
	mkfs := command{name: "mke2fs", env: clock, args: []string{
		"-q", "-F", "-t", "ext4", "-L", "root", "-m", "1", "-e", "remount-ro", "-U", rootUUID,
		"-O", "metadata_csum_seed", // the UUID can be changed at once
		"-E", "hash_seed=" + hashSeed + ",assume_storage_prezeroed=1", name,
	}}
	if _, err := mkfs.run(ctx); err != nil {
		return err
	}
	commands := b.part("root.debugfs")
	if err := os.WriteFile(commands, []byte(script), 0o644); err != nil {
		return fmt.Errorf("make root: %w", err)
	}
	fill := command{name: "debugfs", env: clock, args: []string{"-w", "-f", commands, name}}
	_, said, err := fill.runBoth(ctx)
	if err != nil {
		return err
	}
	if err := debugfsTrouble(said); err != nil {
		return err
	}
	_, err = run(ctx, "e2fsck", "-f", "-n", name)
	return err
}

// rootBytes is the size of a root file system for so many bytes of files: what
// ext4 needs beside them, and room to start in before it has grown.
func rootBytes(files int64) int64 {
	return (files*5/4 + 256*mib + mib - 1) / mib * mib
}

// debugfsTrouble finds what went wrong in a debugfs script: it goes on after an
// error and exits with zero. A run without trouble says its version only.
func debugfsTrouble(said string) error {
	var trouble []string
	for line := range strings.SplitSeq(said, "\n") {
		if line != "" && !strings.HasPrefix(line, "debugfs ") {
			trouble = append(trouble, line)
		}
	}
	if len(trouble) == 0 {
		return nil
	}
	return fmt.Errorf("debugfs: %s", lastLines(strings.Join(trouble[:min(len(trouble), 10)], "\n"), 10))
}

// fillScript writes the debugfs commands that copy a tree, and says how many
// bytes its files need. Times later than began are those of this build and
// become the epoch; the others came with the packages and stay.
func fillScript(tree string, began time.Time) (script string, total int64, err error) {
	f := filler{tree: tree, began: began, linked: map[uint64]string{}}
	err = filepath.WalkDir(tree, f.visit)
	if err != nil {
		return "", 0, fmt.Errorf("read tree: %w", err)
	}
	for _, dir := range f.dirs {
		// After all, because filling a folder changes its time.
		f.say("set_inode_field %s mtime @%d", quote(dir.path), dir.mtime)
	}
	return f.script.String(), f.total, nil
}

type filler struct {
	tree   string
	began  time.Time
	script strings.Builder
	cwd    string
	total  int64
	linked map[uint64]string // inodes with several names: the first of them
	dirs   []struct {
		path  string
		mtime int64
	}
}

func (f *filler) say(format string, args ...any) { fmt.Fprintf(&f.script, format+"\n", args...) }

func (f *filler) visit(name string, d fs.DirEntry, err error) error {
	if err != nil {
		return err
	}
	about, err := d.Info()
	if err != nil {
		return err
	}
	st, ok := about.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: no stat", name)
	}
	path := "/" + strings.TrimPrefix(strings.TrimPrefix(name, f.tree), "/")
	if strings.ContainsAny(path, "\"\n") {
		return fmt.Errorf("%q: debugfs cannot name it", path)
	}
	if err := noAttributes(name); err != nil {
		return err
	}
	f.enter(filepath.Dir(path))
	switch {
	case d.IsDir():
		return f.folder(path, st)
	case d.Type()&fs.ModeSymlink != 0:
		return f.symlink(name, path, st)
	case d.Type().IsRegular():
		f.file(name, path, st)
		return nil
	}
	if strings.HasPrefix(path, "/dev/") {
		return nil // the kernel's devtmpfs has them
	}
	return fmt.Errorf("%s: neither file, folder nor link", path)
}

// enter changes debugfs's folder: "write" takes no path.
func (f *filler) enter(dir string) {
	if dir != f.cwd {
		f.say("cd %s", quote(dir))
		f.cwd = dir
	}
}

func (f *filler) folder(path string, st *syscall.Stat_t) error {
	if path != "/" {
		f.say("mkdir %s", quote(filepath.Base(path)))
	}
	f.say("set_inode_field %s mode 0%o", quote(path), st.Mode)
	f.own(path, st)
	f.total += 4096
	f.dirs = append(f.dirs, struct {
		path  string
		mtime int64
	}{path, f.time(st)})
	return nil
}

func (f *filler) symlink(name, path string, st *syscall.Stat_t) error {
	target, err := os.Readlink(name)
	if err != nil {
		return err
	}
	f.say("symlink %s %s", quote(filepath.Base(path)), quote(target))
	f.own(path, st)
	f.say("set_inode_field %s mtime @%d", quote(path), f.time(st))
	return nil
}

func (f *filler) file(name, path string, st *syscall.Stat_t) {
	if st.Nlink > 1 {
		if first, ok := f.linked[st.Ino]; ok {
			f.say("link %s %s", quote(first), quote(path))
			f.say("set_inode_field %s links_count %d", quote(path), st.Nlink)
			return
		}
		f.linked[st.Ino] = path
	}
	f.say("write %s %s", quote(name), quote(filepath.Base(path)))
	f.own(path, st)
	f.say("set_inode_field %s mtime @%d", quote(path), f.time(st))
	f.total += (st.Size + 4095) / 4096 * 4096
}

func (f *filler) own(path string, st *syscall.Stat_t) {
	if st.Uid != 0 {
		f.say("set_inode_field %s uid %d", quote(path), st.Uid)
	}
	if st.Gid != 0 {
		f.say("set_inode_field %s gid %d", quote(path), st.Gid)
	}
}

func (f *filler) time(st *syscall.Stat_t) int64 {
	if t := st.Mtim.Sec; t < f.began.Unix() {
		return t
	}
	return epoch.Unix()
}

// noAttributes refuses extended attributes, which would get lost here: no
// package of ours has a file with capabilities.
func noAttributes(name string) error {
	size, err := unix.Llistxattr(name, nil)
	if err != nil || size == 0 {
		return nil // none, or a file system that has no such thing
	}
	names := make([]byte, size)
	if size, err = unix.Llistxattr(name, names); err != nil {
		return fmt.Errorf("%s: list attributes: %w", name, err)
	}
	for attribute := range strings.SplitSeq(string(names[:size]), "\x00") {
		if attribute == "security.capability" || strings.HasPrefix(attribute, "system.posix_acl") {
			return fmt.Errorf("%s: has attribute %s, which would be lost", name, attribute)
		}
	}
	return nil
}

func quote(s string) string { return `"` + s + `"` }

// makeHole makes a file of zeros that takes no room.
func makeHole(name string, size int64) error {
	if err := os.WriteFile(name, nil, 0o644); err != nil {
		return fmt.Errorf("make file: %w", err)
	}
	if err := os.Truncate(name, size); err != nil {
		return fmt.Errorf("make file: %w", err)
	}
	return nil
}
