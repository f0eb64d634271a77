package console

import (
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rackstage/provision/fleet"
)

// Limits bound what an archive keeps. The oldest goes first.
type Limits struct {
	Record  int64 // bytes that a machine wrote, in one record; it goes on in another; 4 MiB
	Node    int64 // bytes on disk, of one node; 32 MiB
	Records int   // of one node; 50
	Total   int64 // bytes on disk; 2 GiB
}

// An Archive keeps records on disk: a folder for each node, a file for each
// record. What a machine wrote is in the file within a second; a record that is
// over is compressed.
type Archive struct {
	dir    *os.Root
	limits Limits
	log    *slog.Logger
	ending chan struct{} // records that are being brought to disk

	mu    sync.Mutex
	nodes map[fleet.NodeID][]*kept // oldest first
	total int64
}

// A kept is a record on disk.
type kept struct {
	Record
	file string // in the archive's directory
	size int64
	open *writer // nil when it is over
}

const (
	openSuffix   = ".rec"
	closedSuffix = ".rec.gz"
	idForm       = "20060102T150405.000000"

	endAtOnce = 4 // records
)

// OpenArchive opens an archive, and closes the records that a crash left open.
func OpenArchive(dir string, l Limits, log *slog.Logger) (*Archive, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make directory of consoles: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open directory of consoles: %w", err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	l.Record, l.Node = cmp.Or(l.Record, 4<<20), cmp.Or(l.Node, 32<<20)
	l.Records, l.Total = cmp.Or(l.Records, 50), cmp.Or(l.Total, 2<<30)
	a := &Archive{dir: root, limits: l, log: log, ending: make(chan struct{}, endAtOnce), nodes: map[fleet.NodeID][]*kept{}}
	return a, a.load()
}

// load finds what is there. What is no record of ours is left alone.
func (a *Archive) load() error {
	err := fs.WalkDir(a.dir.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		node := fleet.NodeID(path.Dir(name))
		if !plainName(string(node)) {
			return nil
		}
		if strings.HasSuffix(name, ".tmp") {
			return a.dir.Remove(name)
		}
		if strings.HasSuffix(name, openSuffix) {
			sealed, err := a.seal(name)
			if err != nil {
				a.log.Warn("console record not closed", "file", name, "err", err)
				if !errors.Is(err, errRecord) {
					return nil // as it is, until there is room
				}
			}
			if err := a.dir.Remove(name); err != nil || sealed == "" {
				return err
			}
			name = sealed
		}
		k, err := a.look(name)
		if err != nil {
			a.log.Warn("console record not readable", "file", name, "err", err)
			return nil
		}
		a.nodes[node] = append(a.nodes[node], k)
		a.total += k.size
		return nil
	})
	if err != nil {
		return fmt.Errorf("read directory of consoles: %w", err)
	}
	for node, list := range a.nodes {
		slices.SortFunc(list, func(x, y *kept) int { return strings.Compare(x.ID, y.ID) })
		a.nodes[node] = list
	}
	return nil
}

// look reads what a closed record says about itself.
func (a *Archive) look(name string) (*kept, error) {
	if !strings.HasSuffix(name, closedSuffix) {
		return nil, errRecord
	}
	f, err := a.dir.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	k := &kept{file: name, size: info.Size()}
	if len(z.Comment) > maxHead || json.Unmarshal([]byte(z.Comment), &k.Record) != nil || k.ID != strings.TrimSuffix(path.Base(name), closedSuffix) {
		return nil, errRecord
	}
	return k, nil
}

// seal compresses a record that is over, up to its last whole piece, into
// another file, whose name it returns.
func (a *Archive) seal(name string) (sealed string, err error) {
	in, err := a.dir.Open(name)
	if err != nil {
		return "", err
	}
	defer in.Close()
	rec, err := measure(in)
	if err != nil {
		return "", err
	}
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	sealed = strings.TrimSuffix(name, openSuffix) + closedSuffix
	tmp := sealed + ".tmp"
	out, err := a.dir.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	err = errors.Join(compress(out, in, rec), out.Sync(), out.Close())
	if err == nil {
		err = a.dir.Rename(tmp, sealed)
	}
	if err != nil {
		_ = a.dir.Remove(tmp) // there may be no room for it
		return "", err
	}
	return sealed, nil
}

// measure reads a record through.
func measure(in io.Reader) (Record, error) {
	r, err := readRecord(in)
	if err != nil {
		return Record{}, err
	}
	rec := r.rec
	for {
		at, piece, err := r.next()
		rec.Ended = at
		if err != nil {
			return rec, nil //nolint:nilerr // the last whole piece is the end
		}
		rec.Bytes += int64(len(piece))
	}
}

func compress(out io.Writer, in io.Reader, rec Record) error {
	about, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	z := gzip.NewWriter(out)
	z.Comment = string(about)
	_, err = io.Copy(z, in)
	return errors.Join(err, z.Close())
}

// Records are those of a node, newest first.
func (a *Archive) Records(node fleet.NodeID) []Record {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := make([]Record, 0, len(a.nodes[node]))
	for _, k := range slices.Backward(a.nodes[node]) {
		list = append(list, k.Record)
	}
	return list
}

// open opens a record for reading.
func (a *Archive) open(node fleet.NodeID, id string) (*recordReader, io.Closer, error) {
	a.mu.Lock()
	var found *kept
	for _, k := range a.nodes[node] {
		if k.ID == id {
			k.flush()
			found = k
		}
	}
	if found == nil {
		a.mu.Unlock()
		return nil, nil, &fleet.Error{Kind: fleet.NotFound, Code: "E-CONSOLE-RECORD", Op: "read console record", On: id, Err: errors.New("there is none"), Hint: "list them: provision console NODE --log"}
	}
	f, err := a.dir.Open(found.file)
	a.mu.Unlock()
	if err != nil {
		return nil, nil, fmt.Errorf("open console record: %w", err)
	}
	var in io.Reader = f
	if strings.HasSuffix(found.file, closedSuffix) {
		if in, err = gzip.NewReader(f); err != nil {
			return nil, nil, errors.Join(fmt.Errorf("open console record: %w", err), f.Close())
		}
	}
	r, err := readRecord(in)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open console record: %w", err), f.Close())
	}
	return r, f, nil
}

// makeRoom drops the oldest records until the limits hold; the caller holds mu.
func (a *Archive) makeRoom(node fleet.NodeID) {
	size := func() (n int64) {
		for _, k := range a.nodes[node] {
			n += k.size
		}
		return n
	}
	for len(a.nodes[node]) > 1 && (len(a.nodes[node]) > a.limits.Records || size() > a.limits.Node) {
		a.drop(node)
	}
	for a.total > a.limits.Total {
		oldest := fleet.NodeID("")
		for id, list := range a.nodes {
			if list[0].open == nil && (oldest == "" || list[0].ID < a.nodes[oldest][0].ID) {
				oldest = id
			}
		}
		if oldest == "" {
			return
		}
		a.drop(oldest)
	}
}

// drop forgets the oldest record of a node; the caller holds mu.
func (a *Archive) drop(node fleet.NodeID) {
	k := a.nodes[node][0]
	if err := a.dir.Remove(k.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.log.Warn("console record not removed", "file", k.file, "err", err)
	}
	a.total -= k.size
	if a.nodes[node] = a.nodes[node][1:]; len(a.nodes[node]) == 0 {
		delete(a.nodes, node)
	}
}

// Close closes the directory; records that go on are closed by those who write
// them.
func (a *Archive) Close() error { return a.dir.Close() }

// plainName reports whether a name is one of a node, and no path.
func plainName(s string) bool {
	return s != "" && s[0] != '.' && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == ""
}

// newID is the name of a record that begins now: later ones sort after it.
func newID(now time.Time) string { return now.UTC().Format(idForm) }
