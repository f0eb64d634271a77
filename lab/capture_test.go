package lab

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestARecordingIsACaptureFile(t *testing.T) {
	at := time.Unix(1763724000, 123456789)
	var b bytes.Buffer
	p := &pcapWriter{w: &b}
	p.header()
	p.frame(at, []byte("frame"))
	if p.err != nil {
		t.Fatal(p.err)
	}
	want := []byte{0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0} // pcap-savefile(5)
	want = binary.LittleEndian.AppendUint32(want, 1763724000)
	want = binary.LittleEndian.AppendUint32(want, 123456)
	want = append(want, 5, 0, 0, 0, 5, 0, 0, 0)
	want = append(want, "frame"...)
	if !bytes.Equal(b.Bytes(), want) {
		t.Errorf("got  %x\nwant %x", b.Bytes(), want)
	}
}

func TestWhatPassesTheBridgeIsRecorded(t *testing.T) {
	r := up(t, small(BIOS))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	path := filepath.Join(t.TempDir(), "rack.pcap")
	recording, stop := context.WithCancel(ctx)
	defer stop()
	wait, err := r.Record(recording, path, nil)
	if err != nil {
		t.Fatal(err)
	}
	asked := discover(ctx, t, r)
	if err := r.PowerOn(ctx, "n1"); err != nil {
		t.Fatal(err)
	}
	receive(ctx, t, asked)
	receive(ctx, t, asked) // it repeats itself; so the first one is in the file by now
	stop()
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if client := []byte("PXEClient:Arch:00000"); !bytes.Contains(b, client) {
		t.Errorf("%d bytes recorded, without the machine's DISCOVER", len(b))
	}
}
