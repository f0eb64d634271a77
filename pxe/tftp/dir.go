package tftp

import (
	"fmt"
	"io"
	"io/fs"
	"os"
)

// OpenIn opens a regular file below a folder. [os.Root] follows no symbolic
// link out of it.
func OpenIn(root *os.Root, name string) (io.ReadCloser, int64, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%q is no regular file: %w", name, fs.ErrNotExist)
	}
	if err != nil {
		_ = f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}
