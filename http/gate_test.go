package http

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// submit posts a form as a browser at the given origin does.
func submit(s *Server, target, cookie string, form url.Values, headers map[string]string) *httptest.ResponseRecorder {
	req := httptest.NewRequest("POST", target, strings.NewReader(form.Encode()))
	req.Host = "localhost"
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "text/html")
	for k, v := range headers {
		req.Header.Set(k, v)
	}
	if cookie != "" {
		req.AddCookie(&http.Cookie{Name: cookieName(req), Value: cookie})
	}
	out := httptest.NewRecorder()
	through(s, doorPlain).ServeHTTP(out, req)
	return out
}

func TestFormsOfOtherSitesAreRefused(t *testing.T) {
	tests := map[string]struct {
		headers map[string]string
		status  int
	}{
		"our own page":                          {map[string]string{"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}, 303},
		"our own page in an older browser":      {map[string]string{"Origin": "http://localhost"}, 303},
		"another site":                          {map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, 403},
		"another site in an older browser":      {map[string]string{"Origin": "https://evil.example"}, 403},
		"a sister host":                         {map[string]string{"Sec-Fetch-Site": "same-site", "Origin": "http://sister.localhost"}, 403},
		"a sandboxed frame":                     {map[string]string{"Origin": "null"}, 403},
		"a cookie and no word where it is from": {nil, 403},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s, e := newTestServer(t)
			got := submit(s, "/approve", "operator", url.Values{"ref": {"n-0000000002"}, "back": {"q=x"}}, tt.headers)
			if got.Code != tt.status {
				t.Errorf("status %d, want %d", got.Code, tt.status)
			}
			if approved := e.nodes[1].Approved; approved != (tt.status == 303) {
				t.Errorf("approved = %v", approved)
			}
		})
	}
}

func TestALoginOfAnotherSiteIsRefused(t *testing.T) {
	s, _ := newTestServer(t)
	form := url.Values{"user": {"viewer"}, "password": {"viewer"}}
	got := submit(s, "/login", "", form, map[string]string{"Sec-Fetch-Site": "cross-site"})
	if got.Code != 403 || got.Header().Get("Set-Cookie") != "" {
		t.Errorf("status %d, cookie %q; want 403 and none", got.Code, got.Header().Get("Set-Cookie"))
	}
}

func TestThePlainListenerKnowsItsName(t *testing.T) {
	s, _ := newTestServer(t)
	for host, want := range map[string]int{
		"localhost": 200, "localhost:8080": 200, "127.0.0.1:8080": 200, "[::1]:8080": 200,
		"rebound.evil.example": 421, "10.0.0.1": 421, "": 421,
	} {
		req := httptest.NewRequest("GET", "/api/v1/health", nil)
		req.Host = host
		out := httptest.NewRecorder()
		through(s, doorPlain).ServeHTTP(out, req)
		if out.Code != want {
			t.Errorf("Host %q: status %d, want %d", host, out.Code, want)
		}
	}
}

func TestSignIn(t *testing.T) {
	tests := map[string]struct {
		user, password, next string
		status               int
		location, says       string
	}{
		"the right password":            {"viewer", "viewer", "", 303, "/", ""},
		"back to where one came from":   {"viewer", "viewer", "/?q=state%3Afailed", 303, "/?q=state%3Afailed", ""},
		"not to another site":           {"viewer", "viewer", "https://evil.example/", 303, "/", ""},
		"not to another site, relative": {"viewer", "viewer", "//evil.example/", 303, "/", ""},
		"not to another site, by slash": {"viewer", "viewer", `/\evil.example/`, 303, "/", ""},
		"a wrong password":              {"viewer", "guess", "", 401, "", "wrong user name or password"},
		"too many guesses":              {"limited", "guess", "", 429, "", "wait 60 seconds"},
		"a hostile name":                {`"><script>alert(1)</script>`, "x", "", 401, "", "&lt;script&gt;"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s, _ := newTestServer(t)
			got := submit(s, "/login", "", url.Values{"user": {tt.user}, "password": {tt.password}, "next": {tt.next}},
				map[string]string{"Sec-Fetch-Site": "same-origin"})
			if got.Code != tt.status || got.Header().Get("Location") != tt.location {
				t.Fatalf("status %d to %q, want %d to %q", got.Code, got.Header().Get("Location"), tt.status, tt.location)
			}
			cookie := got.Header().Get("Set-Cookie")
			if tt.status != 303 {
				if cookie != "" || !strings.Contains(got.Body.String(), tt.says) || strings.Contains(got.Body.String(), "<script>") {
					t.Errorf("cookie %q, page:\n%s", cookie, got.Body)
				}
				return
			}
			for _, want := range []string{"HttpOnly", "SameSite=Strict", "Path=/"} {
				if !strings.Contains(cookie, want) {
					t.Errorf("cookie %q lacks %s", cookie, want)
				}
			}
		})
	}
}

func TestOverTLSTheCookieIsSecure(t *testing.T) {
	s, _ := newTestServer(t)
	server := httptest.NewTLSServer(through(s, doorTLS))
	defer server.Close()
	client := server.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := client.PostForm(server.URL+"/login", url.Values{"user": {"viewer"}, "password": {"viewer"}})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	cookie := res.Header.Get("Set-Cookie")
	if !strings.HasPrefix(cookie, "__Host-provision=") || !strings.Contains(cookie, "Secure") {
		t.Errorf("cookie = %q, want one with Secure and the __Host- prefix", cookie)
	}
}

func TestSignOutTakesTheCookieAway(t *testing.T) {
	s, _ := newTestServer(t)
	got := submit(s, "/logout", "viewer", nil, map[string]string{"Sec-Fetch-Site": "same-origin"})
	if cookie := got.Header().Get("Set-Cookie"); got.Code != 303 || !strings.Contains(cookie, "1970") {
		t.Errorf("status %d, cookie %q; want 303 and one that has expired", got.Code, cookie)
	}
}

func TestABrowserWithoutSessionIsSentToTheLoginPage(t *testing.T) {
	s, _ := newTestServer(t)
	req := httptest.NewRequest("GET", "/?q=pool%3Aprd", nil)
	req.Host = "localhost"
	req.Header.Set("Accept", "text/html")
	out := httptest.NewRecorder()
	through(s, doorPlain).ServeHTTP(out, req)
	if want := "/login?next=%2F%3Fq%3Dpool%253Aprd"; out.Code != 303 || out.Header().Get("Location") != want {
		t.Errorf("status %d to %q, want 303 to %q", out.Code, out.Header().Get("Location"), want)
	}
}

func TestEveryAnswerHasTheSecurityHeaders(t *testing.T) {
	s, _ := newTestServer(t)
	for _, path := range []string{"/", "/login", "/api/v1/nodes", "/nothing", "/assets/console.js"} {
		h := ask(s, "GET", path, "viewer", "").Header()
		csp := h.Get("Content-Security-Policy")
		if !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: policy %q, nosniff %q", path, csp, h.Get("X-Content-Type-Options"))
		}
	}
}

func TestForwardedAddressesAreNotBelieved(t *testing.T) {
	req := httptest.NewRequest("GET", "/", nil)
	req.RemoteAddr = "[::ffff:10.77.0.20]:999"
	req.Header.Set("X-Forwarded-For", "127.0.0.1")
	req.Header.Set("X-Real-Ip", "127.0.0.1")
	if got := remoteAddr(req).String(); got != "10.77.0.20" {
		t.Errorf("address = %s, want 10.77.0.20", got)
	}
}

func TestTheDemoAccountLooksOnly(t *testing.T) {
	s, e := newTestServer(t)
	if got := ask(s, "GET", "/api/v1/nodes", "demo", ""); got.Code != 200 {
		t.Errorf("looking: status %d, want 200", got.Code)
	}
	if got := ask(s, "POST", "/api/v1/enrol/n-0000000002/approve", "demo", ""); got.Code != 403 || e.nodes[1].Approved {
		t.Errorf("approving: status %d, approved %v; want 403", got.Code, e.nodes[1].Approved)
	}
	page := ask(s, "GET", "/", "demo", "").Body.String()
	if !strings.Contains(page, "Demo account") || !strings.Contains(page, "needs role operator") || !strings.Contains(page, "disabled") {
		t.Error("the console shows no banner, or a button that can be pressed")
	}
}
