// Package bootfile answers HTTP requests for files of any size, as firmware,
// loaders and agents fetch them: the server from its state folder, a relay from
// its cache.
package bootfile

import (
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// A reader has StallTime for each piece of a file. Slow links and firmware
// get through (18 KiB/s); one that has stopped reading is let go.
const (
	StallTime = time.Minute
	piece     = 1 << 20
)

// Serve answers with a file, or the part of it that was asked for. It returns
// how many bytes of it left.
func Serve(w http.ResponseWriter, req *http.Request, f *os.File, info fs.FileInfo, tag string) (sent int64) {
	return ServeContent(w, req, f, info.ModTime(), tag)
}

// ServeContent does so with what is no file, and was made at a time.
func ServeContent(w http.ResponseWriter, req *http.Request, content io.ReadSeeker, made time.Time, tag string) (sent int64) {
	w.Header().Set("ETag", tag)
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(pacedWriter{w, &sent}, req, "", made, content)
	return sent
}

// Send passes a body on, for as long as its reader takes it.
func Send(w http.ResponseWriter, body io.Reader) (sent int64, err error) {
	return pacedWriter{w, new(int64)}.ReadFrom(body)
}

// A pacedWriter moves the write deadline on with every piece that left. It
// passes files on as files, so that they go out by sendfile.
type pacedWriter struct {
	http.ResponseWriter
	sent *int64
}

// ReadFrom is what io.Copy calls with what [http.ServeContent] sends.
func (w pacedWriter) ReadFrom(src io.Reader) (sent int64, err error) {
	defer func() { *w.sent += sent }()
	file, limit := src, int64(1<<63-1)
	if part, ok := src.(*io.LimitedReader); ok {
		file, limit = part.R, part.N // sendfile wants the file itself behind one limit
	}
	control := http.NewResponseController(w.ResponseWriter)
	for sent < limit {
		_ = control.SetWriteDeadline(time.Now().Add(StallTime))
		want := min(piece, limit-sent)
		n, err := io.Copy(w.ResponseWriter, &io.LimitedReader{R: file, N: want})
		sent += n
		if err != nil || n < want {
			return sent, err
		}
	}
	return sent, nil
}

// OpenIn opens a plain file below a directory. [os.Root] keeps it there,
// whatever links and dots the name is made of.
func OpenIn(dir *os.Root, name string) (*os.File, fs.FileInfo, error) {
	f, err := dir.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe must not hold us up
	return regular(f, err)
}

// Open opens a plain file by a path that a store itself made of a checked name.
func Open(path string) (*os.File, fs.FileInfo, error) {
	if !filepath.IsAbs(path) {
		return nil, nil, fmt.Errorf("open %s: not an absolute path", path)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	return regular(f, err)
}

func regular(f *os.File, err error) (*os.File, fs.FileInfo, error) {
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a plain file", info.Name())
	}
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// Tag names one version of a file: files are replaced by renaming, so
// that inode, size and time tell two versions apart.
func Tag(info fs.FileInfo) string {
	var inode uint64
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		inode = stat.Ino
	}
	return fmt.Sprintf(`"%x-%x-%x"`, inode, info.Size(), info.ModTime().UnixNano())
}
