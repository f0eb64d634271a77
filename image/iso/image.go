package iso

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"sort"
	"time"
)

// A File is one of an image.
type File struct {
	Name    string // path, in lower case: "boot/grub/grub.cfg"
	Size    int64
	Content io.ReaderAt // is read for as long as the image is
}

// Options say what is in an image.
type Options struct {
	Label string    // of the volume: capitals, digits and underscores
	Made  time.Time // that all files show
	Files []File
	BIOS  string // name of the file that a BIOS starts: GRUB's image for El Torito; "": none
	EFI   string // name of the file with the file system that a UEFI boots from; "": none
}

// An Image is a CD image that is made while it is read. Reading it is safe for
// several at a time where its files are.
type Image struct {
	size   int64
	pieces []piece // in their order; between them are zeros
}

type piece struct {
	at, size int64
	from     io.ReaderAt
}

const (
	sector   = 2048
	maxFile  = 1<<32 - sector // ISO 9660 counts bytes in 32 bits
	maxImage = 1 << 42        // and sectors
	maxBIOS  = 1 << 20        // of what a BIOS starts
	maxFiles = 1000
)

var (
	labelShape = regexp.MustCompile(`^[A-Z0-9_]{1,32}$`)
	nameShape  = regexp.MustCompile(`^[a-z0-9._-]{1,30}(/[a-z0-9._-]{1,30}){0,6}$`)
)

// New lays an image out.
func New(o Options) (*Image, error) {
	if !labelShape.MatchString(o.Label) {
		return nil, fmt.Errorf("lay out CD image: label %q has more than capitals, digits and underscores", o.Label)
	}
	if len(o.Files) > maxFiles {
		return nil, fmt.Errorf("lay out CD image: %d files are too many", len(o.Files))
	}
	t := newTree()
	for _, f := range o.Files {
		if err := t.add(f); err != nil {
			return nil, fmt.Errorf("lay out CD image: %w", err)
		}
	}
	l, err := place(t, o)
	if err != nil {
		return nil, fmt.Errorf("lay out CD image: %w", err)
	}
	m := &Image{size: int64(l.end) * sector}
	m.add(0, l.head(o))
	for _, f := range t.files {
		at, told := int64(f.at)*sector, int64(0)
		if f == l.bios {
			m.add(at, l.told)
			told = int64(len(l.told))
		}
		m.pieces = append(m.pieces, piece{at + told, f.Size - told, io.NewSectionReader(f.Content, told, f.Size-told)})
	}
	return m, nil
}

func (m *Image) add(at int64, b []byte) {
	m.pieces = append(m.pieces, piece{at, int64(len(b)), byteReader(b)})
}

// Size returns how many bytes the image has.
func (m *Image) Size() int64 { return m.size }

// ReadAt implements io.ReaderAt.
func (m *Image) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errors.New("read CD image: before its start")
	}
	if off >= m.size {
		return 0, io.EOF
	}
	if rest := m.size - off; int64(len(p)) > rest {
		p, err = p[:rest], io.EOF
	}
	for i := m.pieceAfter(off); n < len(p); i++ {
		at := off + int64(n)
		if i == len(m.pieces) || at < m.pieces[i].at { // zeros up to the next one, or the end
			gap := int64(len(p) - n)
			if i < len(m.pieces) {
				gap = min(gap, m.pieces[i].at-at)
			}
			clear(p[n : n+int(gap)])
			n += int(gap)
			i--
			continue
		}
		k, err := m.pieces[i].read(p[n:], at)
		n += k
		if err != nil {
			return n, err
		}
	}
	return n, err
}

// pieceAfter returns the first piece that does not end before off.
func (m *Image) pieceAfter(off int64) int {
	return sort.Search(len(m.pieces), func(i int) bool { return m.pieces[i].at+m.pieces[i].size > off })
}

// read reads what of the piece there is from a place of the image on.
func (c piece) read(p []byte, at int64) (int, error) {
	within := at - c.at
	if rest := c.size - within; int64(len(p)) > rest {
		p = p[:rest]
	}
	n, err := c.from.ReadAt(p, within)
	switch {
	case n == len(p):
		return n, nil
	case err == nil || errors.Is(err, io.EOF): // the file has become shorter
		return n, io.ErrUnexpectedEOF
	default:
		return n, err
	}
}

// A byteReader is bytes that are read at any place.
type byteReader []byte

// ReadAt implements io.ReaderAt.
func (b byteReader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= int64(len(b)) {
		return 0, io.EOF
	}
	n := copy(p, b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
