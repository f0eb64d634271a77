package relay

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rackstage/provision/api"
)

func TestOnlyAServerThatDoesNotKnowUsRemovesUs(t *testing.T) {
	tests := map[string]struct {
		status        int
		code          string
		removed, kept bool
	}{
		"it does not know us":   {401, "E-RELAY", true, false},
		"it has too much to do": {429, "E-RATE", false, true},
		"it waited too long":    {408, "", false, true},
		"it was too much":       {413, "E-BODY", false, true},
		"it is broken":          {500, "", false, true},
		"another 401":           {401, "E-CERTIFICATE", false, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := behind(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tt.status)
				_ = json.NewEncoder(w).Encode(api.Problem{Status: tt.status, Code: tt.code, Detail: "no"})
			})
			r.saw(api.RelayFetched{File: "vmlinuz"})
			err := r.beat(t.Context())
			if got := r.removed.Load(); got != tt.removed || (err == nil) != tt.removed {
				t.Errorf("removed: %v, %v; want %v", got, err, tt.removed)
			}
			if got := len(r.takeSeen()) == 1; got != tt.kept {
				t.Errorf("the evidence is kept: %v, want %v", got, tt.kept)
			}
		})
	}
}

func TestALongListOfFilesIsReportedInParts(t *testing.T) {
	r := alone(t)
	for range maxSeen + 1 {
		r.saw(api.RelayFetched{File: string(make([]byte, 2*maxName))})
	}
	first := r.takeSeen()
	if raw, err := json.Marshal(first); err != nil || len(first) != seenAtOnce || len(raw) > 1<<20 {
		t.Errorf("%d files in %d bytes, %v; want %d in less than 1 MiB", len(first), len(raw), err, seenAtOnce)
	}
	r.putBack(first)
	if got := len(r.seen); got != maxSeen {
		t.Errorf("%d files wait, want %d", got, maxSeen)
	}
}

func TestWhatTheServerKnowsIsKeptBesideTheBeats(t *testing.T) {
	s := farSnapshot()
	r := behind(t, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == api.PathRelaySnapshot {
			_ = json.NewEncoder(w).Encode(s)
			return
		}
		_ = json.NewEncoder(w).Encode(struct{}{})
	})
	r.o.StateDir = filepath.Join(t.TempDir(), "later") // there is no writing to it yet
	for _, name := range []string{"old", "new"} {
		s.Name, r.learned = name, time.Time{}
		if err := r.beat(t.Context()); err != nil {
			t.Errorf("the server counts as away: %v", err)
		}
	}
	if err := os.Mkdir(r.o.StateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	r.keepSnapshots(ended)
	if got, err := readSnapshot(r.o.StateDir); err != nil || got.Snapshot.Name != "new" {
		t.Errorf("kept is %q, %v; want the last", got.Snapshot.Name, err)
	}
}
