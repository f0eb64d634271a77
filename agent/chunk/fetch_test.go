package chunk

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"

	"github.com/rackstage/provision/agent/fault"
	"github.com/rackstage/provision/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var data = bytes.Repeat([]byte("the quick brown fox "), 5000)

func named(raw []byte) api.Chunk {
	sum := sha512.Sum512_256(raw)
	return api.Chunk{ID: hex.EncodeToString(sum[:]), Size: int64(len(raw))}
}

func packed(t *testing.T, raw []byte) []byte {
	t.Helper()
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	return e.EncodeAll(raw, nil)
}

// A moody source answers its first requests as it is told, and all others
// right.
type moody struct {
	t     *testing.T
	asked atomic.Int32
	moods []http.HandlerFunc
}

func (m *moody) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if want := "/chunks/" + named(data).ID[:4] + "/" + named(data).ID + ".cacnk"; r.URL.Path != want {
		m.t.Errorf("asked for %s, want %s", r.URL.Path, want)
	}
	if n := int(m.asked.Add(1)); n <= len(m.moods) {
		m.moods[n-1](w, r)
		return
	}
	_, _ = w.Write(packed(m.t, data))
}

func dropped(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "5000")
	_, _ = w.Write([]byte("half"))
	panic(http.ErrAbortHandler)
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func body(b []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(b) }
}

func TestFetch(t *testing.T) {
	other := append([]byte("x"), data[1:]...)
	bomb := packed(t, make([]byte, 64<<20))
	wrong, gone := body(packed(t, other)), status(http.StatusNotFound)
	tests := map[string]struct {
		moods []http.HandlerFunc
		tries int32
		want  fault.Code
	}{
		"a good source":                         {nil, 1, ""},
		"a dropped connection":                  {[]http.HandlerFunc{dropped, dropped, dropped}, 4, ""},
		"a server that restarts":                {[]http.HandlerFunc{status(503), status(502)}, 3, ""},
		"a corrupted chunk is fetched again":    {[]http.HandlerFunc{wrong, wrong, wrong}, 4, ""},
		"a chunk that stays corrupted":          {[]http.HandlerFunc{wrong, wrong, wrong, wrong}, 4, fault.ChunkCorrupt},
		"what is not zstd is corrupted":         {[]http.HandlerFunc{body(data), body(nil), body([]byte("(\xb5/\xfd")), wrong}, 4, fault.ChunkCorrupt},
		"a chunk that unpacks to much more":     {[]http.HandlerFunc{body(bomb), body(bomb), body(bomb), body(bomb)}, 4, fault.ChunkCorrupt},
		"a chunk that unpacks to less":          {[]http.HandlerFunc{body(packed(t, data[:10]))}, 2, ""},
		"a chunk that nobody has":               {[]http.HandlerFunc{gone, gone, gone, gone}, 4, fault.ChunkMissing},
		"a chunk that comes late to the source": {[]http.HandlerFunc{gone, gone}, 3, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := &moody{t: t, moods: tt.moods}
			s := httptest.NewServer(m)
			defer s.Close()
			f := New([]string{s.URL + "/chunks/"}, 2, nil)
			defer f.Close()
			p := make([]byte, len(data))
			err := f.Fetch(t.Context(), named(data), p)
			if fault.CodeOf(err) != tt.want || (tt.want == "") != (err == nil) {
				t.Fatalf("Fetch = %v, want code %q", err, tt.want)
			}
			if err == nil && !bytes.Equal(p, data) {
				t.Error("the chunk's content differs")
			}
			if err != nil && !strings.Contains(err.Error(), named(data).ID) {
				t.Errorf("%q does not name the chunk", err)
			}
			if got := m.asked.Load(); got != tt.tries {
				t.Errorf("asked %d times, want %d", got, tt.tries)
			}
		})
	}
}

func TestOtherSourcesStepIn(t *testing.T) {
	bad := &moody{t: t, moods: []http.HandlerFunc{body(data), body(data), body(data), body(data)}}
	good := &moody{t: t}
	first, second := httptest.NewServer(bad), httptest.NewServer(good)
	defer first.Close()
	defer second.Close()
	f := New([]string{first.URL + "/chunks", second.URL + "/chunks/"}, 2, nil)
	defer f.Close()
	for range 3 {
		if err := f.Fetch(t.Context(), named(data), make([]byte, len(data))); err != nil {
			t.Fatal(err)
		}
	}
	if bad.asked.Load() != 1 || good.asked.Load() != 3 {
		t.Errorf("the bad source was asked %d times, the good one %d; want 1 and 3", bad.asked.Load(), good.asked.Load())
	}
}

func TestServerThatIsAwayIsWaitedFor(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	s := &http.Server{Handler: &moody{t: t}, ReadHeaderTimeout: time.Minute}
	back := time.AfterFunc(600*time.Millisecond, func() {
		if l, err := net.Listen("tcp", addr); err == nil {
			_ = s.Serve(l)
		}
	})
	defer back.Stop()
	defer s.Close() // the end of the test
	var said atomic.Int32
	f := New([]string{"http://" + addr + "/chunks/"}, 2, func(string) { said.Add(1) })
	defer f.Close()
	if err := f.Fetch(t.Context(), named(data), make([]byte, len(data))); err != nil {
		t.Fatal(err)
	}
	if said.Load() == 0 {
		t.Error("nobody was told that the server was away")
	}
}

func TestFetchEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	f := New([]string{"http://127.0.0.1:1/"}, 1, nil)
	defer f.Close()
	if err := f.Fetch(ctx, named(data), make([]byte, len(data))); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Fetch = %v, want %v", err, context.DeadlineExceeded)
	}
	if err := New(nil, 1, nil).Fetch(ctx, named(data), nil); fault.CodeOf(err) != fault.ImageSource {
		t.Errorf("Fetch without sources = %v, want %s", err, fault.ImageSource)
	}
}
