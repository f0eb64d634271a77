package http

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/internal/golden"
)

func TestProblemPages(t *testing.T) {
	deep := strings.Repeat("[", 26) + strings.Repeat("]", 26)
	tests := map[string]struct {
		method, target, token, body string
	}{
		"unknown-node":      {"GET", "/api/v1/nodes/nope", "viewer", ""},
		"unknown-pool":      {"POST", "/api/v1/pools/prod/plan", "viewer", ""},
		"unknown-run":       {"GET", "/api/v1/runs/prd-99", "viewer", ""},
		"unknown-path":      {"GET", "/api/v2/nodes", "viewer", ""},
		"wrong-method":      {"DELETE", "/api/v1/nodes", "admin", ""},
		"not-signed-in":     {"GET", "/api/v1/nodes", "", ""},
		"role-too-low":      {"POST", "/api/v1/enrol/n-0000000002/approve", "viewer", ""},
		"unreachable-bmc":   {"POST", "/api/v1/nodes/prd-1/power", "operator", `{"op":"on"}`},
		"stale-plan":        {"POST", "/api/v1/pools/prd/runs", "operator", `{"plan":"stale","destructive":false}`},
		"broken-site":       {"POST", "/api/v1/site", "admin", `{"yaml":"pols: []","dry_run":true}`},
		"unknown-field":     {"POST", "/api/v1/site", "admin", `{"yaml":"","dry_run":true,"force":true}`},
		"no-json":           {"POST", "/api/v1/site", "admin", `{"yaml`},
		"nested-too-deep":   {"POST", "/api/v1/site", "admin", deep},
		"body-too-large":    {"POST", "/api/v1/site", "admin", `{"yaml":"` + strings.Repeat("x", maxBody) + `"}`},
		"bad-search":        {"GET", "/api/v1/nodes?q=stat:failed", "viewer", ""},
		"bad-state":         {"GET", "/api/v1/nodes?q=state:boot", "viewer", ""},
		"bad-limit":         {"GET", "/api/v1/nodes?limit=100000", "viewer", ""},
		"unknown-parameter": {"GET", "/api/v1/nodes?limits=1", "viewer", ""},
		"bad-wait":          {"GET", "/api/v1/runs/prd-1?wait=soon", "viewer", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s, _ := newTestServer(t)
			got := ask(s, tt.method, tt.target, tt.token, tt.body)
			if ct := got.Header().Get("Content-Type"); ct != problemType {
				t.Errorf("Content-Type = %q, want %q", ct, problemType)
			}
			var p map[string]any
			if err := json.Unmarshal(got.Body.Bytes(), &p); err != nil {
				t.Fatalf("%v in %s", err, got.Body)
			}
			if int(p["status"].(float64)) != got.Code {
				t.Errorf("status in body %v, in header %d", p["status"], got.Code)
			}
			pretty, _ := json.MarshalIndent(p, "", "  ")
			golden.Check(t, "testdata/problems/"+name+".json", string(pretty)+"\n")
		})
	}
}

func TestOurOwnFaultsShowNoDetail(t *testing.T) {
	err := fmt.Errorf("open /var/lib/provision/keys/seal: %w", errors.New("password is hunter2"))
	p := problemOf(err)
	if p.Status != http.StatusInternalServerError || strings.Contains(fmt.Sprint(p.Problem), "hunter2") || strings.Contains(fmt.Sprint(*p.Problem), "/var/lib") {
		t.Errorf("problem = %+v, want 500 without detail", *p.Problem)
	}
	if !errors.Is(p, err) {
		t.Error("the cause is lost for the log")
	}
}

func TestEveryKindHasItsStatus(t *testing.T) {
	for kind, want := range map[fleet.Kind]int{
		fleet.Invalid: 422, fleet.NotFound: 404, fleet.Conflict: 409, fleet.Denied: 403, fleet.Unreachable: 502, fleet.Internal: 500,
	} {
		if got := problemOf(&fleet.Error{Kind: kind}).Status; got != want {
			t.Errorf("%s: status %d, want %d", kind, got, want)
		}
	}
}

func TestAPanicIsA500AndTheServerGoesOn(t *testing.T) {
	s, e := newTestServer(t)
	e.panics = true
	if got := ask(s, "GET", "/api/v1/nodes", "viewer", ""); got.Code != 500 || strings.Contains(got.Body.String(), "fire") {
		t.Errorf("answer = %d %s, want a bare 500", got.Code, got.Body)
	}
	e.panics = false
	if got := ask(s, "GET", "/api/v1/nodes", "viewer", ""); got.Code != 200 {
		t.Errorf("status after a panic = %d, want 200", got.Code)
	}
}
