package main

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/rackstage/provision/lab/redfish"
)

// startBMC starts a Redfish service behind an ear that hears every password
// and token. What it refuses it repeats, as some do.
func (l *life) startBMC(t *testing.T, now **redfish.Service) (port string) {
	t.Helper()
	return l.serve(t, l.hears(func() *redfish.Service {
		l.mu.Lock()
		defer l.mu.Unlock()
		if *now == nil {
			panic(http.ErrAbortHandler)
		}
		return *now
	}), true)
}

// serve has a BMC listen at a port of loopback, with TLS or without.
func (l *life) serve(t *testing.T, bmc http.Handler, secure bool) (port string) {
	t.Helper()
	srv := httptest.NewUnstartedServer(bmc)
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug) // who is killed hangs up
	if secure {
		srv.StartTLS()
	} else {
		srv.Start()
	}
	t.Cleanup(srv.Close)
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u.Port()
}

// hears is a BMC whose visitors' secrets are noted.
func (l *life) hears(service func() *redfish.Service) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { l.serveBMC(service(), w, r) })
}

func (l *life) serveBMC(service *redfish.Service, w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<16))
	var in struct{ UserName, Password string }
	_ = json.Unmarshal(body, &in) // most have none
	l.secret("password that a BMC got", in.Password)
	l.secret("token of a BMC", r.Header.Get("X-Auth-Token"))
	user, password, _ := r.BasicAuth()
	l.secret("password that a BMC got", password)
	l.secret("authorization of a BMC", strings.TrimPrefix(r.Header.Get("Authorization"), "Basic "))
	r.Body = io.NopCloser(bytes.NewReader(body))
	answer := httptest.NewRecorder()
	service.ServeHTTP(answer, r)
	maps.Copy(w.Header(), answer.Header())
	if in.Password != "" && answer.Code >= 400 || answer.Code == http.StatusUnauthorized {
		w.Header().Del("Content-Length")
		w.WriteHeader(answer.Code)
		repeats(w, fmt.Sprintf("The value '%s' of user %s is not taken: %s %s %s", in.Password, in.UserName, l.spellings(cmp.Or(in.UserName, user), cmp.Or(in.Password, password)), r.Header.Get("Authorization"), body))
		return
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

// spellings are ways to write a login that are not Go's, each of which is a secret
// too: as forms and JSON may escape each letter of it, as pages name some, as URLs
// have Base64, and as much as there is place for.
func (l *life) spellings(user, password string) string {
	if password == "" {
		return ""
	}
	const place = 10
	form, script := "", ""
	for _, b := range []byte(password) {
		form += fmt.Sprintf("%%%02x", b)
		script += fmt.Sprintf(`\u%04X`, b)
	}
	all := []string{
		form, script, strings.NewReplacer("&", "&amp;", `"`, "&quot;", "<", "&lt;").Replace(password),
		base64.RawURLEncoding.EncodeToString([]byte(user + ":" + password)), password[:min(len(password), place)],
	}
	for _, spelling := range all {
		l.secret("password that a BMC got, in other letters", spelling)
	}
	return strings.Join(all, " ")
}

// repeats answers with what a Redfish service says about an error.
func repeats(w io.Writer, message string) {
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"message": message}}) // who hangs up hears nothing
}

// serveBlade is a BMC of its own, whose user has a password that a rule gives, or
// another one.
func (l *life) serveBlade(password string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.blade = redfish.New(redfish.Options{Username: "admin", Password: password, Systems: []redfish.System{{Machine: &l.machine}}})
}

// become gives the BMC an account, as the agent of its machine would.
func (l *life) become(user, password string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bmc = redfish.New(redfish.Options{Username: user, Password: password, Systems: []redfish.System{{
		Machine: &redfish.Memory{}, Console: redfish.Console{Port: l.ssh.Port()},
	}}})
}

func (l *life) faults(f redfish.Faults) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bmc.SetFaults(f)
}
