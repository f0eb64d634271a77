package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// makeBig puts big.bin into a folder: one file for all servers and rounds, since
// how fast it goes out depends on the pages of memory that it got as well.
func (b *bench) makeBig(dir string, size int64) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // nginx's worker reads it
		return err
	}
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { //nolint:gosec // likewise
		return err
	}
	one := filepath.Join(b.dir, fmt.Sprintf("big-%d.bin", size))
	if _, err := os.Stat(one); errors.Is(err, fs.ErrNotExist) {
		if err := writeWhole(one, slices.Repeat([]byte("boot"), int(size+3)/4)[:size]); err != nil {
			return err
		}
	}
	return os.Link(one, filepath.Join(dir, "big.bin"))
}

// writeWhole writes a file that is there only when it is on the disk: no round is
// measured beside the writing of it.
func writeWhole(name string, content []byte) error {
	part := name + ".part"
	f, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644) //nolint:gosec // nginx's worker reads it
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(part))
	}
	return os.Rename(part, name)
}
