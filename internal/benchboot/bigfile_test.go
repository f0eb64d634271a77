package main

import (
	"os"
	"path/filepath"
	"testing"
)

// A disk that was full once has left no part of a file that passes for the whole
// of it.
func TestAFileThatWasNotWrittenWholeIsNotServed(t *testing.T) {
	disk := t.TempDir()
	command(t, "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk)
	t.Cleanup(func() { command(t, "umount", "-l", disk) })
	b := &bench{dir: disk}
	for _, dir := range []string{"one", "two"} {
		if err := b.makeBig(filepath.Join(disk, dir, "boot"), 4<<20); err == nil {
			t.Errorf("4 MiB are in 1 MiB, in folder %s", dir)
		}
	}
	command(t, "mount", "-o", "remount,size=8m", disk)
	dir := filepath.Join(disk, "three", "boot")
	if err := b.makeBig(dir, 4<<20); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "big.bin"))
	if err != nil || info.Size() != 4<<20 {
		t.Errorf("big.bin is %v, %v; want 4 MiB", info, err)
	}
}
