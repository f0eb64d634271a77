package console

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	"github.com/rackstage/provision/fleet"
)

// A writer writes one record. The archive's mutex guards it, so that readers see
// whole pieces.
type writer struct {
	a    *Archive
	node fleet.NodeID
	k    *kept
	file *os.File
	last time.Time // of the piece before
	held []byte    // came, and is not on disk yet
	at   time.Time // when it came
	err  error     // the disk's; nothing is written any more
}

// holdMost is what is held back until its line ends: secrets are looked for in
// whole lines.
const holdMost = 4 << 10

// begin begins a record of a node.
func (a *Archive) begin(node fleet.NodeID, why string, now time.Time) (*writer, error) {
	if !plainName(string(node)) {
		return nil, fmt.Errorf("record console of %q: this is no node", node)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	rec := Record{ID: newID(now), Began: now.UTC(), Why: ascii(why)}
	if list := a.nodes[node]; len(list) > 0 && list[len(list)-1].ID >= rec.ID { // the clock was set back, or stands
		later, err := time.Parse(idForm, list[len(list)-1].ID)
		if err != nil {
			return nil, fmt.Errorf("record console: %w", err)
		}
		rec.ID = newID(later.Add(time.Microsecond))
	}
	if err := a.dir.Mkdir(string(node), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("record console: %w", err)
	}
	name := path.Join(string(node), rec.ID+openSuffix)
	file, err := a.dir.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("record console: %w", err)
	}
	head, err := appendHead(nil, rec)
	if err == nil {
		_, err = file.Write(head)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("record console: %w", err), file.Close(), a.dir.Remove(name))
	}
	w := &writer{a: a, node: node, file: file, last: rec.Began}
	w.k = &kept{Record: rec, file: name, size: int64(len(head)), open: w}
	a.nodes[node] = append(a.nodes[node], w.k)
	a.total += w.k.size
	a.makeRoom(node)
	return w, nil
}

// write takes in what the machine wrote, and reports whether the record is full.
func (w *writer) write(b []byte, now time.Time) (full bool, err error) {
	w.a.mu.Lock()
	defer w.a.mu.Unlock()
	if len(w.held) == 0 {
		w.at = now
	}
	w.held = append(w.held, b...)
	if len(w.held) >= holdMost {
		w.put(len(w.held))
	} else if i := bytes.LastIndexByte(w.held, '\n'); i >= 0 {
		w.put(i + 1)
	}
	return w.k.Bytes >= w.a.limits.Record, w.err
}

// tick writes what has waited for the end of its line.
func (w *writer) tick() error {
	w.a.mu.Lock()
	defer w.a.mu.Unlock()
	w.put(len(w.held))
	return w.err
}

// flush is tick for who holds the archive's mutex.
func (k *kept) flush() {
	if k.open != nil {
		k.open.put(len(k.open.held))
	}
}

// put writes the first n bytes that are held; the caller holds the mutex.
func (w *writer) put(n int) {
	if n == 0 || w.err != nil {
		w.held = w.held[:0]
		return
	}
	piece := mask(w.held[:n])
	frame := appendPiece(nil, w.at.Sub(w.last), piece)
	if _, err := w.file.Write(frame); err != nil {
		w.err = fmt.Errorf("record console: %w", err)
	} else {
		w.last = w.last.Add(max(0, w.at.Sub(w.last)).Truncate(time.Millisecond))
		w.k.Bytes += int64(len(piece))
		w.k.size += int64(len(frame))
		w.a.total += int64(len(frame))
	}
	w.held = append(w.held[:0], w.held[n:]...)
}

// end closes the record and compresses it. One in which nothing stands is no
// record. A hall that is switched off ends all its records at once: the disk has
// a few of them at a time, and no other console waits for it.
func (w *writer) end() error {
	w.a.mu.Lock()
	w.put(len(w.held))
	err := w.err
	name, empty := w.k.file, w.k.Bytes == 0
	w.a.mu.Unlock()

	w.a.ending <- struct{}{}
	err = errors.Join(err, w.file.Sync(), w.file.Close())
	sealed := ""
	if !empty {
		var sealErr error
		sealed, sealErr = w.a.seal(name)
		err = errors.Join(err, sealErr)
	}
	<-w.a.ending

	w.a.mu.Lock()
	defer w.a.mu.Unlock()
	w.k.open = nil
	w.k.Ended = w.last
	if w.k.Bytes == 0 {
		w.a.forget(w.node, w.k)
		return err
	}
	if sealed != "" {
		w.a.replace(w.k, sealed)
	}
	w.a.makeRoom(w.node)
	return err
}

// replace puts the compressed file in the place of the other; the caller holds
// the mutex.
func (a *Archive) replace(k *kept, sealed string) {
	info, err := a.dir.Stat(sealed)
	if err != nil {
		return // the next start finds it
	}
	_ = a.dir.Remove(k.file) // or the next start does it
	a.total += info.Size() - k.size
	k.file, k.size = sealed, info.Size()
}

// forget removes a record in which nothing stands; the caller holds the mutex.
func (a *Archive) forget(node fleet.NodeID, empty *kept) {
	list := a.nodes[node]
	for i, k := range list {
		if k == empty {
			a.nodes[node] = append(list[:i:i], list[i+1:]...)
			a.total -= k.size
			_ = a.dir.Remove(k.file) // it is opened again at the next start, and empty then
		}
	}
	if len(a.nodes[node]) == 0 {
		delete(a.nodes, node)
	}
}

// ascii is what may stand in a comment of gzip.
func ascii(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, fleet.CleanText(s))
}
