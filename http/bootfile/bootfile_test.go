package bootfile

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A wire remembers what net/http's own writer would have been given.
type wire struct {
	http.ResponseWriter
	from      []string
	deadlines int
}

func (w *wire) ReadFrom(r io.Reader) (int64, error) {
	part, ok := r.(*io.LimitedReader)
	if !ok {
		return 0, fmt.Errorf("got a %T", r)
	}
	w.from = append(w.from, fmt.Sprintf("%T %d", part.R, part.N))
	return io.Copy(io.Discard, r)
}

func (w *wire) SetWriteDeadline(time.Time) error { w.deadlines++; return nil }

func TestFilesGoOutBySendfilePieceByPiece(t *testing.T) {
	name := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(name, make([]byte, 2*piece+10), 0o644); err != nil {
		t.Fatal(err)
	}
	f, info, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := &wire{ResponseWriter: httptest.NewRecorder()}
	Serve(w, httptest.NewRequest("GET", "/", nil), f, info, `"x"`)
	want := []string{fmt.Sprintf("*os.File %d", piece), fmt.Sprintf("*os.File %d", piece), "*os.File 10"}
	if diff := cmp.Diff(want, w.from); diff != "" {
		t.Errorf("what the connection was given (-want +got):\n%s", diff)
	}
	if w.deadlines != len(want) {
		t.Errorf("%d deadlines, want one for each piece", w.deadlines)
	}
}

func BenchmarkBootFile(b *testing.B) {
	name := filepath.Join(b.TempDir(), "big")
	if err := os.WriteFile(name, make([]byte, 36<<20), 0o644); err != nil {
		b.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		f, info, err := Open(name)
		if err != nil {
			b.Error(err)
			return
		}
		defer f.Close()
		Serve(w, req, f, info, `"x"`)
	}))
	defer server.Close()
	b.SetBytes(36 << 20)
	for b.Loop() {
		res, err := http.Get(server.URL)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
	}
}
