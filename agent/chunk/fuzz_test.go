package chunk

import (
	"bytes"
	"crypto/sha512"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/rackstage/provision/api"
)

// pack is a chunk as it travels.
func pack(f *testing.F, raw []byte) []byte {
	f.Helper()
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		f.Fatal(err)
	}
	defer func() { _ = e.Close() }()
	return e.EncodeAll(raw, nil)
}

// FuzzUnpack unpacks whatever a peer may send: it is the chunk that was asked for,
// or an error, and never more than there is room for.
func FuzzUnpack(f *testing.F) {
	raw := []byte("the quick brown fox jumps over the lazy dog")
	good := pack(f, raw)
	for _, b := range [][]byte{good, good[:len(good)-1], pack(f, make([]byte, 1<<20)), pack(f, nil), append(bytes.Clone(good), good...), raw, {0x28, 0xb5, 0x2f, 0xfd}, nil} {
		f.Add(b)
	}
	fetcher := New(nil, 1, nil)
	f.Cleanup(fetcher.Close)
	want := named(raw)
	f.Fuzz(func(t *testing.T, sent []byte) {
		u, err := fetcher.unpacker()
		if err != nil {
			t.Fatal(err)
		}
		u.packed.Reset()
		u.packed.Write(sent)
		room := bytes.Repeat([]byte{0xa5}, len(raw)+64)
		err = u.unpack(want, room[:len(raw)])
		fetcher.unpackers.Put(u)
		if sum := sha512.Sum512_256(room[:len(raw)]); err == nil && hex.EncodeToString(sum[:]) != want.ID {
			t.Errorf("unpacked, the chunk is %q", room[:len(raw)])
		}
		if bytes.Count(room[len(raw):], []byte{0xa5}) != 64 {
			t.Error("it wrote beyond the chunk")
		}
	})
}

// FuzzDoor asks a node of a rack for whatever a peer may: it gives the chunks of
// its image and nothing else.
func FuzzDoor(f *testing.F) {
	raw := []byte("a chunk of the image")
	c, full := named(raw), pack(f, raw)
	source := httptest.NewServer(http.NotFoundHandler())
	fetcher := New([]string{source.URL + api.PathChunks}, 1, nil)
	r := NewRack(fetcher, api.ImageIndex{Size: c.Size, Chunks: []api.Chunk{c}}, 1<<20)
	r.kept.put(c.ID, full)
	r.SetPeers("10.0.0.1:7400", []string{"10.0.0.1:7400", "10.0.0.2:7400"})
	f.Cleanup(func() { r.Close(); fetcher.Close(); source.Close() })
	path := api.PathChunks + fileOf(c.ID)
	for _, p := range []string{path, path + "/", "/x/../" + path, api.PathChunks + c.ID + ".cacnk", api.PathChunks, "", "/" + strings.Repeat("../", 9) + "etc/passwd"} {
		f.Add("GET", p, "10.0.0.2:7400", "1")
		f.Add("HEAD", p, "", "")
	}
	f.Add("POST", path, "10.9.9.9:1", "insist")
	f.Fuzz(func(t *testing.T, method, path, self, hop string) {
		req := httptest.NewRequest(http.MethodGet, "/", nil)
		req.Method, req.URL.Path = method, path
		req.Header.Set(headerSelf, self)
		req.Header.Set(headerHop, hop)
		w := httptest.NewRecorder()
		r.ServeHTTP(w, req)
		right := method == http.MethodGet && path == api.PathChunks+fileOf(c.ID)
		body, _ := io.ReadAll(w.Result().Body)
		switch {
		case right && w.Code == http.StatusOK && bytes.Equal(body, full):
		case !right && w.Code == http.StatusNotFound:
		default:
			t.Errorf("%s %q = %d, %d bytes", method, path, w.Code, len(body))
		}
		if len(r.fed[c.ID]) > fedMost {
			t.Errorf("it remembers %q", r.fed[c.ID])
		}
	})
}

// FuzzMembers lets nobody in whose address is not that of a member, whatever the
// list of them says.
func FuzzMembers(f *testing.F) {
	f.Add("10.0.0.2:7400", []byte{10, 0, 0, 2})
	f.Add("[fd00::2]:7400", []byte(net.ParseIP("fd00::2")))
	f.Add("10.0.0.2", []byte{10, 0, 0, 2})
	f.Add("", []byte{0, 0, 0, 0})
	r := NewRack(New(nil, 1, nil), api.ImageIndex{}, 1)
	f.Cleanup(r.Close)
	f.Fuzz(func(t *testing.T, member string, from []byte) {
		r.SetPeers("192.0.2.1:7400", []string{"192.0.2.1:7400", member})
		in := r.knows(&net.TCPAddr{IP: from, Port: 1})
		host, _, err := net.SplitHostPort(member)
		if in && !net.IP(from).Equal(net.IPv4(192, 0, 2, 1)) && (err != nil || !net.IP(from).Equal(net.ParseIP(strings.Split(host, "%")[0]))) {
			t.Errorf("%v is let in as %q", net.IP(from), member)
		}
	})
}
