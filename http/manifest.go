package http

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"sync/atomic"

	"golang.org/x/sync/singleflight"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/http/bootfile"
)

// A manifest knows the content of the boot files by hash. A file is read again
// only when it was replaced.
type manifest struct {
	flights singleflight.Group // one reader, whoever asks meanwhile waits for it
	last    atomic.Pointer[fileList]
}

// fileList is the boot files at some time. It is never changed, and it is the
// same one as long as the files are.
type fileList struct {
	list []api.RelayFile
	sums map[string]fileSum
}

type fileSum struct{ tag, sum string }

const maxManifest = 4096 // files

// files looks at the boot files now. Who stops waiting does not stop the
// reading.
func (m *manifest) files(ctx context.Context, dir *os.Root) (*fileList, error) {
	done := m.flights.DoChan("", func() (any, error) { return m.walk(dir) })
	select {
	case r := <-done:
		files, _ := r.Val.(*fileList)
		return files, r.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// walk reads what is new; one at a time.
func (m *manifest) walk(dir *os.Root) (*fileList, error) {
	last := m.last.Load()
	if last == nil {
		last = &fileList{}
	}
	now := &fileList{list: []api.RelayFile{}, sums: map[string]fileSum{}}
	err := fs.WalkDir(dir.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || hidden(name) || len(now.list) >= maxManifest {
			return nil // what cannot be read is not there
		}
		f, info, err := bootfile.OpenIn(dir, name)
		if err != nil {
			return nil // it has just gone
		}
		defer f.Close()
		sum := last.sums[name]
		if tag := bootfile.Tag(info); sum.tag != tag {
			h := sha256.New()
			if _, err := io.Copy(h, f); err != nil {
				return fmt.Errorf("read boot file %s: %w", name, err)
			}
			sum = fileSum{tag: tag, sum: hex.EncodeToString(h.Sum(nil))}
		}
		now.sums[name] = sum
		now.list = append(now.list, api.RelayFile{Name: name, Size: info.Size(), SHA256: sum.sum})
		return nil
	})
	if err != nil {
		return nil, err
	}
	if last.list != nil && maps.Equal(last.sums, now.sums) {
		return last, nil
	}
	m.last.Store(now)
	return now, nil
}
