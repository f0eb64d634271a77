package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/rackstage/provision/fleet"
)

// A journal is a file that leases are appended to. It begins with a block that
// names its generation; then come batches, each with its number and a checksum,
// each at the beginning of a block, so that a block with something acknowledged
// in it is never written again. The file is filled with zeros ahead of the
// batches: a sync then has nothing to store but the batch.
type journal struct {
	f      *os.File
	gen    uint64
	seq    uint64 // batches in it
	leases int    // in all of them
	end    int64  // where the next batch goes
	size   int64  // of the file
	buf    []byte
}

const (
	journalBlock  = 4096
	journalMagic  = "PROVLEA1"
	batchMagic    = 0x4c454153
	batchHeader   = 32
	maxBatch      = 4096 // leases in one batch
	firstJournal  = 256 << 10
	journalGrowth = 8 << 20 // at once, at most
)

var errTorn = errors.New("no whole batch")

func createJournal(path string, gen uint64) (_ *journal, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(path))
		}
	}()
	j := &journal{f: f, gen: gen, end: journalBlock}
	if err := j.grow(firstJournal); err != nil {
		return nil, err
	}
	head := binary.LittleEndian.AppendUint64([]byte(journalMagic), gen)
	head = binary.LittleEndian.AppendUint32(head, crc32.Checksum(head, castagnoli))
	if _, err := f.WriteAt(head, 0); err != nil {
		return nil, err
	}
	return j, errors.Join(f.Sync(), syncDir(filepath.Dir(path)))
}

// openJournal opens a journal to go on with it, behind its last whole batch.
// least is how many batches it is known to have.
func openJournal(path string, gen, least uint64) (*journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	j := &journal{f: f, gen: gen, end: journalBlock}
	if err := j.check(least); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return j, nil
}

func (j *journal) check(least uint64) error {
	info, err := j.f.Stat()
	if err != nil {
		return err
	}
	j.size = info.Size()
	head := make([]byte, len(journalMagic)+12)
	if _, err := j.f.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	body, sum := head[:len(head)-4], binary.LittleEndian.Uint32(head[len(head)-4:])
	if !bytes.HasPrefix(head, []byte(journalMagic)) || crc32.Checksum(body, castagnoli) != sum || binary.LittleEndian.Uint64(head[8:]) != j.gen {
		return errors.New("its beginning was overwritten")
	}
	for {
		next, count, err := j.batchAt(j.end, j.seq)
		if errors.Is(err, errTorn) {
			break
		}
		if err != nil {
			return err
		}
		j.end, j.seq, j.leases = next, j.seq+1, j.leases+count
	}
	if j.seq < least {
		return fmt.Errorf("it has %d batches of leases, and had %d", j.seq, least)
	}
	return j.nothingBehind()
}

// unused returns nil for a journal in which nothing was ever stored: all behind
// its head is zeros. Whether its head is whole does not matter then.
func unused(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	chunk := make([]byte, 1<<20)
	for at := int64(journalBlock); ; at += int64(len(chunk)) {
		n, err := f.ReadAt(chunk, at)
		if len(bytes.Trim(chunk[:n], "\x00")) > 0 {
			return errors.New("leases were stored in it")
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// batchAt reads the batch at a place into the buffer, and returns where the
// next one is. Its payload is j.buf then.
func (j *journal) batchAt(at int64, seq uint64) (next int64, count int, err error) {
	var head [batchHeader]byte
	if _, err := j.f.ReadAt(head[:], at); err != nil {
		return 0, 0, tornAtEnd(err)
	}
	if !j.isBatch(head[:], seq) {
		return 0, 0, errTorn
	}
	length := int64(binary.LittleEndian.Uint32(head[24:]))
	if length > j.size-at-batchHeader {
		return 0, 0, errTorn
	}
	if int64(cap(j.buf)) < length {
		j.buf = make([]byte, length)
	}
	j.buf = j.buf[:length]
	if _, err := j.f.ReadAt(j.buf, at+batchHeader); err != nil {
		return 0, 0, tornAtEnd(err)
	}
	if crc32.Update(crc32.Checksum(head[8:], castagnoli), castagnoli, j.buf) != binary.LittleEndian.Uint32(head[4:]) {
		return 0, 0, errTorn
	}
	return roundUp(at + batchHeader + length), int(binary.LittleEndian.Uint32(head[28:])), nil
}

// isBatch looks at the header of a batch with this number.
func (j *journal) isBatch(head []byte, seq uint64) bool {
	return binary.LittleEndian.Uint32(head) == batchMagic && binary.LittleEndian.Uint64(head[8:]) == j.gen && binary.LittleEndian.Uint64(head[16:]) == seq
}

func tornAtEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errTorn
	}
	return err
}

func roundUp(n int64) int64 { return (n + journalBlock - 1) / journalBlock * journalBlock }

// nothingBehind looks behind the last whole batch. Half a batch may be there,
// which nobody was told of; a later whole one shows that the one in between was
// damaged.
func (j *journal) nothingBehind() error {
	chunk := make([]byte, 1<<20)
	for at := j.end; at < j.size; at += int64(len(chunk)) {
		n, err := j.f.ReadAt(chunk, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		for i := 0; i+batchHeader <= n; i += journalBlock {
			head := chunk[i : i+batchHeader]
			seq := binary.LittleEndian.Uint64(head[16:])
			if seq > j.seq && j.isBatch(head, seq) {
				if _, _, err := j.batchAt(at+int64(i), seq); err == nil {
					return fmt.Errorf("batch %d of its leases is damaged", j.seq)
				}
			}
		}
	}
	return nil
}

// append stores leases in one batch; when it returns nil they are on the disk.
func (j *journal) append(leases []fleet.Lease) error {
	b := append(j.buf[:0], make([]byte, batchHeader)...)
	for i := range leases {
		b = appendLease(b, &leases[i])
	}
	head := b[:batchHeader]
	binary.LittleEndian.PutUint32(head, batchMagic)
	binary.LittleEndian.PutUint64(head[8:], j.gen)
	binary.LittleEndian.PutUint64(head[16:], j.seq)
	binary.LittleEndian.PutUint32(head[24:], uint32(len(b)-batchHeader)) //nolint:gosec // at most maxBatch leases
	binary.LittleEndian.PutUint32(head[28:], uint32(len(leases)))        //nolint:gosec // the same
	binary.LittleEndian.PutUint32(head[4:], crc32.Checksum(b[8:], castagnoli))
	j.buf = b
	next := roundUp(j.end + int64(len(b)))
	if err := j.grow(next); err != nil {
		return err
	}
	// A batch that fails here stays where it is and is written over by the next.
	if _, err := j.f.WriteAt(b, j.end); err != nil {
		return err
	}
	if err := syscall.Fdatasync(int(j.f.Fd())); err != nil {
		return err
	}
	j.end, j.seq, j.leases = next, j.seq+1, j.leases+len(leases)
	return nil
}

// grow writes zeros until the file has this size, and some more.
func (j *journal) grow(need int64) error {
	if need <= j.size {
		return nil
	}
	size := max(need, min(2*j.size, j.size+journalGrowth))
	zeros := make([]byte, 256<<10)
	for at := j.size; at < size; at += int64(len(zeros)) {
		if _, err := j.f.WriteAt(zeros[:min(int64(len(zeros)), size-at)], at); err != nil {
			return errors.Join(err, j.f.Truncate(j.size))
		}
	}
	if err := j.f.Sync(); err != nil {
		return err
	}
	j.size = size
	return nil
}

// each calls do for all leases of the batches before end, in the order in
// which they were stored. It may run beside append: it has its own buffer.
func (j *journal) each(end int64, do func(*record)) error {
	r := &journal{f: j.f, gen: j.gen, end: journalBlock, size: end}
	for r.end < end {
		next, count, err := r.batchAt(r.end, r.seq)
		if err != nil {
			return fmt.Errorf("read batch %d of %s: %w", r.seq, j.f.Name(), err)
		}
		b := r.buf
		for range count {
			var l record
			if l, b, err = cutRecord(b); err != nil {
				return fmt.Errorf("read batch %d of %s: %w", r.seq, j.f.Name(), err)
			}
			do(&l)
		}
		r.end, r.seq = next, r.seq+1
	}
	return nil
}
