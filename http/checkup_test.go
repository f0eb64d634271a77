package http

import (
	"net/http"
	"strings"
	"testing"

	"github.com/rackstage/provision/fleet"
)

func TestWhatABMCSaysIsTold(t *testing.T) {
	s, _ := newTestServer(t, func(*Options) {})
	for path, want := range map[string][]string{
		"GET /api/v1/nodes/prd-1/bmc":            {`"health":"critical"`, `"hottest":{"name":"Inlet"`, `"part":"Fan1"`, `"text":"fan stopped"`, `"watts":187`},
		"GET /api/v1/nodes/prd-1/bmc/bios":       {`"attributes":{"BootMode":"Bios"}`, `"want":"Uefi"`},
		"GET /api/v1/nodes/prd-1/bmc/firmware":   {`"state":"differs"`},
		"POST /api/v1/nodes/prd-1/bmc/examine":   {`"health":"critical"`},
		"POST /api/v1/nodes/prd-1/bmc/log/clear": {`"health":"critical"`},
	} {
		method, url, _ := strings.Cut(path, " ")
		got := ask(s, method, url, "admin", "")
		if got.Code != http.StatusOK {
			t.Errorf("%s: status %d, %s", path, got.Code, got.Body)
		}
		for _, w := range want {
			if !strings.Contains(got.Body.String(), w) {
				t.Errorf("%s lacks %s: %s", path, w, got.Body)
			}
		}
	}
	list := ask(s, "GET", "/api/v1/bmc", "admin", "")
	if list.Code != http.StatusOK || strings.Contains(list.Body.String(), "fan stopped") {
		t.Errorf("the list: status %d, %s; want it without logs", list.Code, list.Body)
	}
	if got := ask(s, "POST", "/api/v1/nodes/prd-1/bmc/log/clear", "demo", ""); got.Code != http.StatusForbidden && got.Code != http.StatusUnauthorized {
		t.Errorf("a viewer clears a log: %d", got.Code)
	}
}

// A node at work is restarted for those only who say that they know.
func TestANodeAtWorkIsRestartedByForceOnly(t *testing.T) {
	s, e := newTestServer(t, func(*Options) {})
	e.nodes[0].State = fleet.Active
	tests := map[string]struct {
		path, body string
		status     int
		says       string
	}{
		"settings, without a body":  {"bios", "", http.StatusConflict, `"code":"E-NODE-SERVES"`},
		"settings, without force":   {"bios", `{}`, http.StatusConflict, `--force`},
		"settings, with force":      {"bios", `{"force":true}`, http.StatusOK, `"want":"Uefi"`},
		"firmware, with a restart":  {"firmware", `{"restart":true}`, http.StatusConflict, `"code":"E-NODE-SERVES"`},
		"firmware, with force":      {"firmware", `{"restart":true,"force":true}`, http.StatusOK, `"state":"differs"`},
		"firmware, without restart": {"firmware", `{}`, http.StatusOK, `"state":"differs"`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := ask(s, "POST", "/api/v1/nodes/"+string(e.nodes[0].ID)+"/bmc/"+tt.path, "admin", tt.body)
			if got.Code != tt.status || !strings.Contains(got.Body.String(), tt.says) {
				t.Errorf("status %d, %s; want %d, %s", got.Code, got.Body, tt.status, tt.says)
			}
		})
	}
}
