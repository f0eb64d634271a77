package image

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// copyFile copies a regular file and makes the folders above it.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("copy file: %w", err)
	}
	defer in.Close()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return fmt.Errorf("copy file: %w", err)
	}
	return writeFile(to, func(w io.Writer) error {
		_, err := io.Copy(w, in)
		return err
	})
}

// writeFile makes a file whole or not at all: under a temporary name beside
// it, then on stable storage, then under its name.
func writeFile(name string, fill func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".tmp-*")
	if err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	err = fillAndSync(f, fill)
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("write file %s: %w", name, err)
	}
	return nil
}

func fillAndSync(f *os.File, fill func(io.Writer) error) error {
	defer f.Close()
	if err := fill(f); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

// fileDigest is the SHA-256 of a file, in hex.
func fileDigest(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", fmt.Errorf("digest: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("digest of %s: %w", name, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// text fills a file with a string.
func text(s string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, s)
		return err
	}
}

func fileSize(name string) (int64, error) {
	about, err := os.Stat(name)
	if err != nil {
		return 0, fmt.Errorf("size of file: %w", err)
	}
	return about.Size(), nil
}

// openELF opens a program to look at its headers.
func openELF(name string) (*elf.File, error) {
	f, err := elf.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read program: %w", err)
	}
	return f, nil
}

// cacheDir makes the folder for what can be used again; without a name it is a
// temporary one, and forget removes it.
func cacheDir(name string) (dir string, forget func(), err error) {
	if name == "" {
		dir, err = os.MkdirTemp("", "provision-image-*")
		if err != nil {
			return "", nil, fmt.Errorf("make cache folder: %w", err)
		}
		return dir, func() { os.RemoveAll(dir) }, nil
	}
	if dir, err = filepath.Abs(name); err != nil {
		return "", nil, fmt.Errorf("make cache folder: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", nil, fmt.Errorf("make cache folder: %w", err)
	}
	return dir, func() {}, nil
}
