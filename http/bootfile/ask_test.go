package bootfile

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rackstage/provision/internal/pcap"
)

func TestAFileIsAskedForFromItsStartOnce(t *testing.T) {
	for asked, want := range map[string]bool{"": true, "bytes=0-": true, "bytes=0-1023": true, "bytes=1024-2047": false, "bytes=-5": false} {
		req := httptest.NewRequest("GET", "/", nil)
		if asked != "" {
			req.Header.Set("Range", asked)
		}
		if got := FromStart(req); got != want {
			t.Errorf("Range %q: %t, want %t", asked, got, want)
		}
	}
}

func TestNamesOfChunks(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	tests := map[string]string{
		"0123/" + id + ".cacnk":                  id,
		"0124/" + id + ".cacnk":                  "",
		"0123/" + id:                             "",
		"0123/" + id[1:] + ".cacnk":              "",
		"0123/" + id + "0.cacnk":                 "",
		id + ".cacnk":                            "",
		"0123/x/" + id + ".cacnk":                "",
		"ABCD/" + strings.ToUpper(id) + ".cacnk": "",
		"0123/0123/../" + id[8:] + ".cacnk":      "",
		"":                                       "",
	}
	for name, want := range tests {
		if got, ok := ChunkID(name); got != want || ok != (want != "") {
			t.Errorf("%q: %q, %t; want %q", name, got, ok, want)
		}
	}
}

// FuzzChunkID reads names of chunks: what is one names one file, and no other
// folder.
func FuzzChunkID(f *testing.F) {
	captured, err := pcap.Requests("../testdata/after-firmware.pcap")
	if err != nil {
		f.Fatal(err)
	}
	for _, head := range captured { // of a chunk, and of something else
		f.Add(strings.TrimPrefix(strings.Fields(head)[1], "/chunks/"))
	}
	id := strings.Repeat("0123456789abcdef", 4)
	for _, s := range []string{"0123/" + id + ".cacnk", "0124/" + id + ".cacnk", "../" + id + ".cacnk", "0123/../" + id + ".cacnk", "/.cacnk", "", "0123/" + id[:63] + "\x00.cacnk"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		id, ok := ChunkID(name)
		if !ok {
			if id != "" {
				t.Errorf("%q is no chunk, and yet %q", name, id)
			}
			return
		}
		if !IsHash(id) || name != id[:4]+"/"+id+".cacnk" {
			t.Errorf("%q is chunk %q", name, id)
		}
	})
}
