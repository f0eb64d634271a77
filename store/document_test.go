package store_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/internal/golden"
)

// The documents in a database have the field names of package fleet. Whoever
// renames or removes a field there needs a migration first, and then a new
// folder of testdata beside the old one.
func TestOldDocumentsAreStillRead(t *testing.T) {
	n, r := node(1), run("prd-1", 1)
	parts := r.Nodes
	r.Nodes, r.Ended = nil, when
	ticket := fleet.Ticket{Hash: fleet.HashSecret("x"), Purpose: fleet.TicketHello, MAC: n.MAC, Node: n.ID, Addr: n.Addr, Expires: when, Redeemed: when}
	tests := map[string]struct{ wrote, read any }{
		"node":     {n, &fleet.Node{}},
		"run":      {r, &fleet.Run{}},
		"run-node": {parts[0], &fleet.RunNode{}},
		"ticket":   {ticket, &fleet.Ticket{}},
		"site":     {site(), &fleet.Site{}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join("testdata", "0001", name+".json")
			if golden.Updating() {
				write(t, file, tt.wrote)
			}
			old, err := os.ReadFile(file)
			must(t, err)
			strict := json.NewDecoder(bytes.NewReader(old))
			strict.DisallowUnknownFields()
			if err := strict.Decode(tt.read); err != nil {
				t.Fatalf("an old %s is not read whole: %v", name, err)
			}
			raw, err := json.Marshal(tt.read)
			must(t, err)
			if missing := lost("", parseJSON(t, old), parseJSON(t, raw)); missing != "" {
				t.Errorf("an old %s lost %s", name, missing)
			}
		})
	}
}

func write(t *testing.T, file string, v any) {
	t.Helper()
	raw, err := json.MarshalIndent(v, "", "  ")
	must(t, err)
	must(t, os.MkdirAll(filepath.Dir(file), 0o755))
	must(t, os.WriteFile(file, append(raw, '\n'), 0o644))
}

func parseJSON(t *testing.T, raw []byte) (v any) {
	t.Helper()
	must(t, json.Unmarshal(raw, &v))
	return v
}

// lost returns the path to something in old that is not in now.
func lost(path string, old, now any) string {
	switch old := old.(type) {
	case map[string]any:
		fields, _ := now.(map[string]any)
		for k, v := range old {
			if missing := lost(path+"."+k, v, fields[k]); missing != "" {
				return missing
			}
		}
		return ""
	case []any:
		list, _ := now.([]any)
		if len(list) != len(old) {
			return path
		}
		for i, v := range old {
			if missing := lost(path+"[]", v, list[i]); missing != "" {
				return missing
			}
		}
		return ""
	default:
		if old != now {
			return path
		}
		return ""
	}
}
