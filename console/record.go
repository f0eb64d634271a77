package console

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// A Record is what a machine wrote to its console from one start to the next.
type Record struct {
	ID    string    `json:"id"`
	Began time.Time `json:"began"`
	Ended time.Time `json:"ended,omitzero"` // zero while it goes on
	Why   string    `json:"why"`            // it began: "power cycle", "network boot", …
	Bytes int64     `json:"bytes"`
}

// The file of a record: a line that says what it is, the record as a line of
// JSON, and then pieces, each with the milliseconds since the piece before, its
// length, and its bytes. A piece that was torn by a crash ends the record.
const (
	recordMagic = "provision console record 1\n"
	maxPiece    = 64 << 10
	maxHead     = 4 << 10
)

var errRecord = errors.New("this is no record of a console")

// appendHead begins a record.
func appendHead(b []byte, r Record) ([]byte, error) {
	head, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("write record: %w", err)
	}
	return append(append(append(b, recordMagic...), head...), '\n'), nil
}

// appendPiece appends what came at a time.
func appendPiece(b []byte, since time.Duration, data []byte) []byte {
	for len(data) > 0 {
		n := min(len(data), maxPiece)
		b = binary.AppendUvarint(b, uint64(max(0, since.Milliseconds())))
		b = binary.AppendUvarint(b, uint64(n))
		b = append(b, data[:n]...)
		data, since = data[n:], 0
	}
	return b
}

// A recordReader reads a record piece by piece.
type recordReader struct {
	in  *bufio.Reader
	rec Record
	at  time.Time
	buf []byte
}

func readRecord(in io.Reader) (*recordReader, error) {
	r := &recordReader{in: bufio.NewReaderSize(in, maxHead)}
	magic, err := r.in.ReadSlice('\n')
	if err != nil || string(magic) != recordMagic {
		return nil, errRecord
	}
	head, err := r.in.ReadSlice('\n')
	if err != nil || json.Unmarshal(head, &r.rec) != nil {
		return nil, errRecord
	}
	r.at = r.rec.Began
	return r, nil
}

// next returns the next piece, which is valid until it is called again; io.EOF
// after the last whole one.
func (r *recordReader) next() (time.Time, []byte, error) {
	wait, err := binary.ReadUvarint(r.in)
	if err != nil {
		return r.at, nil, io.EOF
	}
	n, err := binary.ReadUvarint(r.in)
	if err != nil || n > maxPiece || wait > uint64(1000*time.Hour/time.Millisecond) {
		return r.at, nil, io.EOF
	}
	if uint64(cap(r.buf)) < n {
		r.buf = make([]byte, n)
	}
	r.buf = r.buf[:n]
	if _, err := io.ReadFull(r.in, r.buf); err != nil {
		return r.at, nil, io.EOF
	}
	r.at = r.at.Add(time.Duration(wait) * time.Millisecond)
	return r.at, r.buf, nil
}
