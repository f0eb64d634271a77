package http

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestEveryRouteDeclaresItsAudience(t *testing.T) {
	s, _ := newTestServer(t)
	table := audiences()
	for _, r := range s.echo.Routes() {
		key := r.Method + " " + r.Path
		if _, ok := table[key]; !ok {
			t.Errorf("route %s is not in the table of audiences", key)
		}
		delete(table, key)
	}
	for key := range table {
		t.Errorf("the table of audiences names %s, which is no route", key)
	}
}

func TestARouteThatIsNotInTheTableIsNotThere(t *testing.T) {
	s, _ := newTestServer(t)
	delete(s.audiences, "GET /api/v1/nodes")
	if got := ask(s, "GET", "/api/v1/nodes", "admin", ""); got.Code != http.StatusNotFound {
		t.Errorf("status = %d, want 404", got.Code)
	}
}

// TestNobodyGetsPastHisAudience tries every route as everybody.
func TestNobodyGetsPastHisAudience(t *testing.T) {
	s, _ := newTestServer(t)
	rank := map[string]int{"": 0, "viewer": 1, "operator": 2, "admin": 3, "demo": 1, "forged": 0}
	needs := map[audience]int{viewers: 1, operators: 2, admins: 3}
	for route, need := range audiences() {
		method, path, _ := strings.Cut(route, " ")
		if need == everybody || slices.Contains([]string{"/live", "/api/v1/events"}, path) {
			continue // streams do not end; TestStreams has them
		}
		path = strings.NewReplacer(":ref", "n-0000000001", ":pool", "prd", ":id", "prd-1", ":name", "debian-12").Replace(path)
		for token, has := range rank {
			got := ask(s, method, path, token, "{}").Code
			refused := got == http.StatusUnauthorized || got == http.StatusForbidden
			want := need == machines || need == agents || need == relays || has < needs[need]
			if refused != want {
				t.Errorf("%s %s as %q: status %d, refused = %v, want %v", method, path, token, got, refused, want)
			}
		}
	}
}

func TestStreamsAreForPeopleWhoSignedIn(t *testing.T) {
	s, _ := newTestServer(t)
	for _, path := range []string{"/live", "/api/v1/events"} {
		if got := ask(s, "GET", path, "", ""); got.Code != http.StatusUnauthorized {
			t.Errorf("GET %s: status %d, want 401", path, got.Code)
		}
	}
}

func TestNoAnswerToStrangersSaysAnything(t *testing.T) {
	s, e := newTestServer(t)
	e.nodes[0].Inventory.Serial = "SECRET-SERIAL"
	for route := range audiences() {
		method, path, _ := strings.Cut(route, " ")
		path = strings.NewReplacer(":ref", "n-0000000001", ":pool", "prd", ":id", "prd-1", ":name", "debian-12", ":file", "console.css").Replace(path)
		body := ask(s, method, path, "", "").Body.String()
		for _, secret := range []string{"SECRET-SERIAL", "prd-1", "52:54:00", "1.2.3", "debian-12"} {
			if strings.Contains(body, secret) {
				t.Errorf("%s %s tells a stranger %q", method, path, secret)
			}
		}
	}
}
