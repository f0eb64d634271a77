package image

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/rackstage/provision/fleet"
)

const defaultMaxBytes = 64 << 30

// Import puts any raw disk image into the store, from a file or from an http
// or https URL, as it is or packed with zstd, gzip or xz. sum is the SHA-256, in
// hex, of the file as it is published, so of the packed one; a URL needs it.
//
// The bytes are only copied: nothing that somebody else made is mounted,
// converted or looked into.
func (s *Store) Import(ctx context.Context, name, from, sum string, log *slog.Logger) (Info, error) {
	if err := checkName(name); err != nil {
		return Info{}, err
	}
	sum, err := checkSum(from, sum)
	if err != nil {
		return Info{}, err
	}
	packed, forget, err := s.source(ctx, from, sum, quiet(log))
	if err != nil {
		return Info{}, err
	}
	defer forget()
	raw, forgetRaw, err := s.unpackImage(ctx, from, packed)
	if err != nil {
		return Info{}, err
	}
	defer forgetRaw()
	info, err := s.Add(ctx, name, raw, Meta{Kind: "raw"})
	if err == nil {
		quiet(log).InfoContext(ctx, "image imported", "image", name, "digest", info.Digest, "bytes", info.Size)
	}
	return info, err
}

// checkSum brings a SHA-256 into the form that we compare.
func checkSum(from, sum string) (string, error) {
	sum = strings.ToLower(strings.TrimPrefix(strings.TrimSpace(sum), "sha256:"))
	if sum == "" && isURL(from) {
		return "", fleet.Invalidf("image "+from, "add the SHA-256 that its maker publishes: --sha256 HEX",
			errors.New("an image from the network needs its SHA-256"))
	}
	if sum != "" && (len(sum) != 64 || strings.Trim(sum, "0123456789abcdef") != "") {
		return "", fleet.Invalidf("SHA-256 "+sum, "give 64 hex digits", errors.New("not a SHA-256"))
	}
	return sum, nil
}

func isURL(from string) bool { return strings.Contains(from, "://") }

// source makes a local, checked file of what is to be imported.
func (s *Store) source(ctx context.Context, from, sum string, log *slog.Logger) (file string, forget func(), err error) {
	if isURL(from) {
		return s.fetch(ctx, from, sum, log)
	}
	file, err = localImage(from)
	if err != nil || sum == "" {
		return file, func() {}, err
	}
	got, err := fileDigest(file)
	if err != nil {
		return "", nil, err
	}
	if got != sum {
		return "", nil, wrongDigest(from, got, sum)
	}
	return file, func() {}, nil
}

// localImage follows a path to the end and refuses what is no file for people:
// device files never end, and the system's own are not images.
func localImage(from string) (string, error) {
	trouble := func(kind fleet.Kind, err error) error {
		return &fleet.Error{Kind: kind, Op: "import", On: from, Err: err, Hint: "give the path of a raw disk image"}
	}
	file, err := filepath.Abs(from)
	if err == nil {
		file, err = filepath.EvalSymlinks(file)
	}
	if err != nil {
		return "", trouble(fleet.NotFound, err)
	}
	for _, no := range []string{"/dev", "/proc", "/sys", "/etc", "/run", "/boot"} {
		if file == no || strings.HasPrefix(file, no+"/") {
			return "", trouble(fleet.Invalid, fmt.Errorf("files below %s are not imported", no))
		}
	}
	about, err := os.Stat(file)
	if err != nil {
		return "", trouble(fleet.NotFound, err)
	}
	if !about.Mode().IsRegular() {
		return "", trouble(fleet.Invalid, errors.New("not a regular file"))
	}
	return file, nil
}

// magics tell by the first bytes what a file is.
var magics = []struct {
	start string
	kind  string
}{
	{"\x28\xb5\x2f\xfd", "zstd"},
	{"\x1f\x8b", "gzip"},
	{"\xfd7zXZ\x00", "xz"},
	{"QFI\xfb", "qcow2"},
	{"KDMV", "vmdk"},
	{"vhdxfile", "vhdx"},
	{"PK\x03\x04", "zip"},
	{"BZh", "bzip2"},
}

// unpackImage makes a raw image of a packed one; a raw one stays where it is.
func (s *Store) unpackImage(ctx context.Context, from, file string) (raw string, forget func(), err error) {
	f, err := os.Open(file)
	if err != nil {
		return "", nil, fmt.Errorf("import %s: %w", from, err)
	}
	defer f.Close()
	start := make([]byte, 8)
	n, err := io.ReadFull(f, start)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return "", nil, fmt.Errorf("import %s: %w", from, err)
	}
	kind := ""
	for _, m := range magics {
		if bytes.HasPrefix(start[:n], []byte(m.start)) {
			kind = m.kind
		}
	}
	if kind == "" {
		if about, err := f.Stat(); err == nil && about.Size() > s.maxBytes() {
			return "", nil, tooLarge(from, s.maxBytes())
		}
		return file, func() {}, nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", nil, fmt.Errorf("import %s: %w", from, err)
	}
	return s.inflate(ctx, from, kind, f)
}

// inflate unpacks into the store's tmp folder, up to the limit.
func (s *Store) inflate(ctx context.Context, from, kind string, packed io.Reader) (raw string, forget func(), err error) {
	r, done, err := unpacker(ctx, kind, packed)
	if err != nil {
		return "", nil, fleet.Invalidf("image "+from, "give a raw disk image, as it is or packed with zstd, gzip or xz", err)
	}
	defer done()
	out, err := os.CreateTemp(s.path("tmp"), "raw-*")
	if err != nil {
		return "", nil, fmt.Errorf("unpack %s: %w", from, err)
	}
	forget = func() { os.Remove(out.Name()) }
	n, err := copySparsely(out, io.LimitReader(contextReader{ctx, r}, s.maxBytes()+1))
	if err == nil && n > s.maxBytes() {
		err = tooLarge(from, s.maxBytes())
	}
	if err := errors.Join(err, out.Close()); err != nil {
		forget()
		return "", nil, fmt.Errorf("unpack %s: %w", from, err)
	}
	return out.Name(), forget, nil
}

func unpacker(ctx context.Context, kind string, packed io.Reader) (r io.Reader, done func(), err error) {
	switch kind {
	case "zstd":
		z, err := zstd.NewReader(packed, zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	case "gzip":
		z, err := gzip.NewReader(bufio.NewReaderSize(packed, mib))
		return z, func() {}, err
	case "xz":
		return xzReader(ctx, packed)
	}
	return nil, nil, fmt.Errorf("it is a %s file", kind)
}

// xzReader unpacks with xz's own program: Go has none, and old images come so.
func xzReader(ctx context.Context, packed io.Reader) (io.Reader, func(), error) {
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, "xz", "--decompress", "--stdout", "--memlimit=1GiB")
	cmd.Stdin = packed
	r, w := io.Pipe()
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, nil, fmt.Errorf("start xz: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.CloseWithError(cmd.Wait())
	}()
	return r, func() {
		cancel()
		r.Close()
		<-ended
	}, nil
}

func (s *Store) maxBytes() int64 {
	if s.MaxBytes > 0 {
		return s.MaxBytes
	}
	return defaultMaxBytes
}

func tooLarge(from string, limit int64) error {
	return &fleet.Error{
		Kind: fleet.Invalid, Op: "import", On: from, Err: fmt.Errorf("larger than the limit of %d MiB", limit/mib),
		Hint: "make the image smaller (nodes grow it to their disk), or raise images.max_size",
	}
}

// copySparsely copies and leaves holes where there are zeros.
func copySparsely(out *os.File, r io.Reader) (int64, error) {
	block := make([]byte, mib)
	var at int64
	for {
		n, err := fillBlock(r, block)
		if n > 0 && !allZero(block[:n]) {
			if _, err := out.WriteAt(block[:n], at); err != nil {
				return at, err
			}
		}
		at += int64(n)
		if errors.Is(err, io.EOF) {
			return at, out.Truncate(at)
		}
		if err != nil {
			return at, err
		}
	}
}

// fillBlock is io.ReadFull that tells the end of the file from a file that was
// cut off: unpackers say io.ErrUnexpectedEOF for the latter, as ReadFull would
// for the former.
func fillBlock(r io.Reader, block []byte) (n int, err error) {
	for n < len(block) && err == nil {
		var m int
		m, err = r.Read(block[n:])
		n += m
	}
	return n, err
}

// checkSpace refuses early what the disk cannot hold.
func checkSpace(dir string, need int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("free space of %s: %w", dir, err)
	}
	if free := int64(st.Bavail) * st.Bsize; need > free {
		return &fleet.Error{
			Kind: fleet.Conflict, Op: "make room in", On: dir,
			Err:  fmt.Errorf("%d MiB needed, %d MiB free", need/mib, free/mib),
			Hint: "remove images that are not used: provision images remove NAME",
		}
	}
	return nil
}

// hexSum is the SHA-256 of what was written to h, in hex.
func hexSum(h interface{ Sum([]byte) []byte }) string { return hex.EncodeToString(h.Sum(nil)) }

// contextReader stops reading when its context ends.
type contextReader struct {
	ctx context.Context //nolint:containedctx // it lives as long as one reading
	r   io.Reader
}

func (r contextReader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(b)
}
