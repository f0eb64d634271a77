package agent

import (
	"bytes"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/rackstage/provision/agent/disk"
	"github.com/rackstage/provision/agent/fault"
	"github.com/rackstage/provision/api"
)

// bay is a machine with one disk, a file, that holds something old.
func bay(t *testing.T, size int) (disk.System, string) {
	t.Helper()
	root := t.TempDir()
	files := map[string]string{
		"sys/block/vda/size":   fmt.Sprint(size / 512),
		"sys/block/vda/serial": "S1",
		"dev/vda":              strings.Repeat("old ", size/4),
	}
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return disk.System{Root: root}, filepath.Join(root, "dev/vda")
}

// An imageServer serves one image in chunks. It drops connections and spoils
// answers as it is told.
type imageServer struct {
	index  api.ImageIndex
	chunks map[string][]byte
	asked  atomic.Int32
	spoil  func(n int32, id string) string // "drop", "flip", "gone"
}

func newImageServer(t *testing.T, raw []byte) *imageServer {
	t.Helper()
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	s := &imageServer{chunks: map[string][]byte{}, spoil: func(int32, string) string { return "" }}
	s.index = api.ImageIndex{Name: "debian-12", Digest: "sha256:d", Size: int64(len(raw))}
	for at := 0; at < len(raw); at += 60_000 {
		p := raw[at:min(len(raw), at+60_000)]
		sum := sha512.Sum512_256(p)
		c := api.Chunk{ID: hex.EncodeToString(sum[:]), Offset: int64(at), Size: int64(len(p)), Zero: bytes.Count(p, []byte{0}) == len(p)}
		s.index.Chunks = append(s.index.Chunks, c)
		if !c.Zero {
			s.chunks[c.ID] = e.EncodeAll(p, nil)
		}
	}
	return s
}

func (s *imageServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := strings.TrimSuffix(filepath.Base(r.URL.Path), ".cacnk")
	b := s.chunks[id]
	switch s.spoil(s.asked.Add(1), id) {
	case "drop":
		w.Header().Set("Content-Length", fmt.Sprint(len(b)))
		_, _ = w.Write(b[:len(b)/2])
		panic(http.ErrAbortHandler)
	case "flip":
		b = bytes.Clone(b)
		b[len(b)/2] ^= 1
	case "gone":
		w.WriteHeader(http.StatusNotFound)
		return
	}
	_, _ = w.Write(b)
}

func testImage() []byte {
	raw := make([]byte, 5<<20)
	for i := range raw {
		raw[i] = byte(i*i>>7) ^ byte(i>>13)
	}
	clear(raw[1<<20 : 3<<20])
	return raw
}

func TestImageIsInstalledThroughTrouble(t *testing.T) {
	tests := map[string]struct {
		spoil func(s *imageServer) func(int32, string) string
		want  fault.Code
	}{
		"no trouble": {nil, ""},
		"every seventh connection drops": {func(*imageServer) func(int32, string) string {
			return func(n int32, _ string) string { return map[bool]string{true: "drop"}[n%7 == 0] }
		}, ""},
		"some chunks come spoiled": {func(*imageServer) func(int32, string) string {
			return func(n int32, _ string) string { return map[bool]string{true: "flip"}[n%9 == 0] }
		}, ""},
		"a chunk is always spoiled": {func(s *imageServer) func(int32, string) string {
			bad := s.index.Chunks[60].ID
			return func(_ int32, id string) string { return map[bool]string{true: "flip"}[id == bad] }
		}, fault.ChunkCorrupt},
		"a chunk is nowhere": {func(s *imageServer) func(int32, string) string {
			bad := s.index.Chunks[60].ID
			return func(_ int32, id string) string { return map[bool]string{true: "gone"}[id == bad] }
		}, fault.ChunkMissing},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			raw := testImage()
			images := newImageServer(t, raw)
			if tt.spoil != nil {
				images.spoil = tt.spoil(images)
			}
			chunks := httptest.NewServer(images)
			defer chunks.Close()
			in, file := installing(t, images)
			_, err := in.write(t.Context(), &api.Step{Kind: api.StepWrite, Write: &api.WriteOrder{
				DiskID: "virtio-S1", Image: "debian-12", Digest: "sha256:d", Chunks: []string{chunks.URL + api.PathChunks},
			}}, func(int, string) {})
			if fault.CodeOf(err) != tt.want || (tt.want == "") != (err == nil) {
				t.Fatalf("write = %v, want code %q", err, tt.want)
			}
			got, rerr := os.ReadFile(file)
			if rerr != nil {
				t.Fatal(rerr)
			}
			if tt.want == "" && !bytes.Equal(got[:len(raw)], raw) {
				t.Error("the disk differs from the image")
			}
			if tt.want != "" && (!bytes.Equal(got[:1<<20], make([]byte, 1<<20)) || !strings.Contains(err.Error(), images.index.Chunks[60].ID)) {
				t.Errorf("the disk may boot, or the chunk is not named: %v", err)
			}
		})
	}
}

// installing is an agent in the ramdisk whose server has the image.
func installing(t *testing.T, images *imageServer) (*installer, string) {
	t.Helper()
	s := newScripted(t)
	s.reply = func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != api.PathImage+"debian-12" || r.URL.Query().Get("digest") != "sha256:d" {
			answer(w, http.StatusNotFound, api.Problem{Title: "no such image"})
			return
		}
		_ = json.NewEncoder(w).Encode(images.index)
	}
	disks, file := bay(t, 8<<20)
	return &installer{client: known(t, s, s.start("").URL), disks: disks, log: slog.New(slog.DiscardHandler)}, file
}

func TestNothingIsWrittenWhenTheOrderIsWrong(t *testing.T) {
	images := newImageServer(t, testImage())
	write := func(o api.WriteOrder) *api.Step { return &api.Step{Kind: api.StepWrite, Write: &o} }
	check := func(o api.DiskOrder) *api.Step { return &api.Step{Kind: api.StepDisk, Disk: &o} }
	tests := map[string]struct {
		step *api.Step
		want fault.Code
	}{
		"another disk":               {check(api.DiskOrder{ID: "virtio-S2"}), fault.DiskOther},
		"a disk too small":           {check(api.DiskOrder{ID: "virtio-S1", Serial: "S1", MinBytes: 1 << 40}), fault.DiskSmall},
		"a disk without an order":    {&api.Step{Kind: api.StepDisk}, fault.StepUnknown},
		"an image for another disk":  {write(api.WriteOrder{DiskID: "virtio-S2", Image: "debian-12", Digest: "sha256:d"}), fault.DiskOther},
		"an image that is not there": {write(api.WriteOrder{DiskID: "virtio-S1", Image: "debian-13", Digest: "sha256:d"}), fault.ImageIndex},
		"an image of another digest": {write(api.WriteOrder{DiskID: "virtio-S1", Image: "debian-12", Digest: "sha256:e"}), fault.ImageIndex},
		"an image without an order":  {&api.Step{Kind: api.StepWrite}, fault.StepUnknown},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			in, file := installing(t, images)
			_, err := in.doers()[tt.step.Kind](t.Context(), tt.step, func(int, string) {})
			if fault.CodeOf(err) != tt.want {
				t.Errorf("step = %v, want %s", err, tt.want)
			}
			if got, err := os.ReadFile(file); err != nil || string(got) != strings.Repeat("old ", 2<<20) {
				t.Errorf("the disk was touched (%v)", err)
			}
		})
	}
}

func TestPlannedDiskIsWiped(t *testing.T) {
	in, file := installing(t, newImageServer(t, testImage()))
	_, err := in.disk(t.Context(), &api.Step{Disk: &api.DiskOrder{ID: "virtio-S1", Serial: "S1", Bytes: 8 << 20, MinBytes: 5 << 20}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(got[:1<<20], make([]byte, 1<<20)) || !bytes.Equal(got[7<<20:], make([]byte, 1<<20)) {
		t.Errorf("head or end of the disk is not blank (%v)", err)
	}
}

func TestSessionOutlivesACrash(t *testing.T) {
	name := filepath.Join(t.TempDir(), "provision/session.json")
	if s := loadSession(name); s.NodeID != "" || s.Key != nil {
		t.Errorf("found %+v where nothing is", s)
	}
	id, err := session{}.identity()
	if err != nil {
		t.Fatal(err)
	}
	want := session{NodeID: "n-1", Certificate: "c", Key: id.keyPEM}
	if err := want.save(name); err != nil {
		t.Fatal(err)
	}
	got := loadSession(name)
	if got.NodeID != want.NodeID || got.Certificate != want.Certificate {
		t.Errorf("loadSession = %+v", got)
	}
	again, err := got.identity()
	if err != nil || !bytes.Equal(again.keyPEM, id.keyPEM) {
		t.Errorf("the agent came back with another key (%v)", err)
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the session's mode is %v (%v)", info.Mode(), err)
	}
}
