package bmc_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab/redfish"
)

// A parrot is a BMC that repeats all secrets that it has heard, in a way of its
// own, from the moment on that it has heard as many.
type parrot struct {
	service *redfish.Service
	after   int
	say     func(w http.ResponseWriter, r *http.Request, heard string) bool // whether that was all of the answer

	mu    sync.Mutex
	heard []string
}

// startParrot starts one, and returns how to sign in to it.
func startParrot(t *testing.T, after int, say func(http.ResponseWriter, *http.Request, string) bool) (bmc.Target, *parrot) {
	t.Helper()
	p := &parrot{service: redfish.New(redfish.Options{Faults: redfish.Faults{NoBasic: true}}), after: math.MaxInt, say: say}
	t.Cleanup(p.service.Close)
	srv := httptest.NewUnstartedServer(p)
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	target := bmc.Target{Node: "n1", Driver: fleet.DriverRedfish, Address: u.Host, Username: "admin", Password: "Secret123Secret1"}
	found, err := quick().Probe(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	p.begin(after)
	return found.Use(target), p
}

// begin has it repeat what it hears from now on, as soon as it has heard so much.
func (p *parrot) begin(after int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.after, p.heard = after, nil
}

// hear notes secrets, and returns all of them, and whether they are enough.
func (p *parrot) hear(secrets ...string) (all []string, enough bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range secrets {
		if s != "" && !slices.Contains(p.heard, s) {
			p.heard = append(p.heard, s)
		}
	}
	return slices.Clone(p.heard), len(p.heard) >= p.after
}

// ServeHTTP implements http.Handler.
func (p *parrot) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var in struct{ Password string }
	_ = json.Unmarshal(body, &in) // most have none
	heard, enough := p.hear(in.Password, r.Header.Get("X-Auth-Token"))
	r.Body = io.NopCloser(bytes.NewReader(body))
	if enough && r.Method != http.MethodDelete && p.say(w, r, strings.Join(heard, ".")) {
		return
	}
	p.service.ServeHTTP(w, r)
}

// seenIn reports which secrets are in a text.
func (p *parrot) seenIn(text string) (seen []string) {
	all, _ := p.hear()
	for _, s := range all {
		if strings.Contains(text, s) {
			seen = append(seen, s)
		}
	}
	return seen
}

// refuses answers with what it has heard, in the words of Redfish.
func refuses(w http.ResponseWriter, _ *http.Request, heard string) bool {
	w.WriteHeader(http.StatusInternalServerError)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"message": "what is " + heard + "?"}})
	return true
}

// rambles answers with what it has heard where HTTP has other words.
func rambles(w http.ResponseWriter, _ *http.Request, heard string) bool {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return false
	}
	_, _ = io.WriteString(conn, "HTTP/1.1 "+heard+" is no status\r\n\r\n")
	_ = conn.Close()
	return true
}

// sends sends on to a host that is named by what it has heard.
func sends(w http.ResponseWriter, r *http.Request, heard string) bool {
	http.Redirect(w, r, "https://"+heard+"/", http.StatusTemporaryRedirect)
	return true
}

// Whatever it is that a BMC has heard, password, token or the password that is to
// be the next one, and however it comes back, in words, in rubbish or as a name.
func TestNoErrorShowsWhatABMCHasHeard(t *testing.T) {
	t.Parallel()
	power := func(t *testing.T, c *bmc.Controller, target bmc.Target) error {
		t.Helper()
		_, err := c.Power(t.Context(), target)
		return err
	}
	change := func(t *testing.T, c *bmc.Controller, target bmc.Target) error {
		t.Helper()
		return c.ChangePassword(t.Context(), target, nextPassword)
	}
	tests := map[string]struct {
		after int
		say   func(http.ResponseWriter, *http.Request, string) bool
		do    func(*testing.T, *bmc.Controller, bmc.Target) error
	}{
		"a login, in words":                {1, refuses, power},
		"a login, in rubbish":              {1, rambles, power},
		"a session, in words":              {2, refuses, power},
		"a session, in rubbish":            {2, rambles, power},
		"a session, as a name":             {2, sends, power},
		"a change of password, in words":   {3, refuses, change},
		"a change of password, in rubbish": {3, rambles, change},
		"a change of password, as a name":  {3, sends, change},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target, p := startParrot(t, tt.after, tt.say)
			err := tt.do(t, quick(), target)
			if all, _ := p.hear(); len(all) < tt.after {
				t.Errorf("it has heard %d secrets, want %d", len(all), tt.after)
			}
			text := fmt.Sprintf("%v %+v %#v %s", err, err, err, fleet.HintOf(err))
			if seen := p.seenIn(text); err == nil || len(seen) > 0 {
				t.Errorf("%q are seen in %s", seen, text)
			}
		})
	}
}

// One who tries another password is not told the one that was refused before.
func TestABMCThatIsLeftAloneShowsNobodysPassword(t *testing.T) {
	t.Parallel()
	target, p := startParrot(t, 1, func(w http.ResponseWriter, _ *http.Request, heard string) bool {
		w.WriteHeader(http.StatusUnauthorized)
		_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"message": "what is " + heard + "?"}})
		return true
	})
	c := quick()
	for i := range 6 {
		target.Password = bmc.Password(fmt.Sprintf("Wr0ngPassw0rd%d", i%3))
		_, err := c.Power(t.Context(), target)
		if seen := p.seenIn(fmt.Sprint(err)); !errors.Is(err, bmc.ErrLogin) || len(seen) > 0 {
			t.Errorf("Power = %v, want %v; %q are seen", err, bmc.ErrLogin, seen)
		}
	}
}

// What a BMC writes down by itself is stored and shown.
func TestNoLogNorTaskShowsWhatABMCHasHeard(t *testing.T) {
	t.Parallel()
	target, p := startParrot(t, 2, func(w http.ResponseWriter, r *http.Request, _ string) bool {
		if !strings.Contains(r.URL.Path, "/Tasks/") {
			return false
		}
		fmt.Fprintf(w, `{"TaskState": "Exception", "Messages": [{"Message": 7}, {"Message": "no image for Secret123Secret1.%s"}]}`, r.Header.Get("X-Auth-Token"))
		return true
	})
	job := newJob("BIOS", "http://10.0.0.1/bios-2.1.bin")
	err := following().Update(t.Context(), target, job, (&ledger{}).keep, nobody)
	if seen := p.seenIn(fmt.Sprint(err)); !errors.Is(err, bmc.ErrRejected) || !strings.Contains(fmt.Sprint(err), "no image for [hidden].[hidden]") || len(seen) > 0 {
		t.Errorf("Update = %v, want %v; %q are seen", err, bmc.ErrRejected, seen)
	}
	p.service.Record("OK", "admin signed in with "+strings.Repeat("much ", 45)+"Secret123Secret1")
	p.service.Record("OK", `admin signed in with Secret123\u0053ecret1`)
	got, err := quick().Examine(t.Context(), target, false)
	if seen := p.seenIn(fmt.Sprint(got)); err != nil || len(got.Log.Entries) < 2 || len(seen) > 0 || strings.Contains(fmt.Sprint(got), "Secret1") {
		t.Errorf("Examine = %+v, %v; %q are seen", got.Log, err, seen)
	}
}
