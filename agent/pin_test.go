package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/api"
)

func TestParsePin(t *testing.T) {
	good := "sha256:" + strings.Repeat("ab", 32)
	if p, err := ParsePin(good); err != nil || p.String() != good {
		t.Errorf("ParsePin(%q) = %v, %v", good, p, err)
	}
	for _, bad := range []string{"", strings.Repeat("ab", 32), "sha256:", "sha256:" + strings.Repeat("ab", 31), "sha256:" + strings.Repeat("xy", 32), "sha512:" + strings.Repeat("ab", 32)} {
		if p, err := ParsePin(bad); err == nil {
			t.Errorf("ParsePin(%q) = %v, want an error", bad, p)
		}
	}
}

func TestOnlyThePinnedServerIsBelieved(t *testing.T) {
	hour := time.Hour
	now := time.Now()
	tests := map[string]struct {
		pinned func(s *scripted) string
		cert   func(s *scripted) tls.Certificate
		host   string
		ok     bool
	}{
		"the server of our CA":   {nil, nil, "", true},
		"a server of another CA": {func(s *scripted) string { return newAuthority(s.t).pin() }, nil, "", false},
		"another CA's server that shows our CA": {nil, func(s *scripted) tls.Certificate {
			other := newAuthority(s.t).server(now.Add(-hour), now.Add(hour))
			other.Certificate = append(other.Certificate, s.ca.cert.Raw)
			return other
		}, "", false},
		"a server that hides its CA": {nil, func(s *scripted) tls.Certificate {
			c := s.ca.server(now.Add(-hour), now.Add(hour))
			c.Certificate = c.Certificate[:1]
			return c
		}, "", false},
		"a node of ours that plays the server": {nil, func(s *scripted) tls.Certificate {
			return s.ca.issue(now.Add(-hour), now.Add(hour), x509.ExtKeyUsageClientAuth)
		}, "", false},
		"a server of another address": {nil, nil, "localhost", false},
		"a certificate that is over":  {nil, func(s *scripted) tls.Certificate { return s.ca.server(now.Add(-hour), now.Add(-time.Minute)) }, "", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newScripted(t)
			cert := s.ca.server(now.Add(-hour), now.Add(hour))
			if tt.cert != nil {
				cert = tt.cert(s)
			}
			srv := s.startWith("", cert)
			pin := s.ca.pin()
			if tt.pinned != nil {
				pin = tt.pinned(s)
			}
			url := srv.URL
			if tt.host != "" {
				url = strings.Replace(url, "127.0.0.1", tt.host, 1)
			}
			c, err := newClient(url, pin, slog.New(slog.DiscardHandler), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer c.http.CloseIdleConnections()
			err = c.call(t.Context(), api.PathHello, api.HelloRequest{CSR: csr(t)}, &api.HelloReply{}, time.Minute)
			if (err == nil) != tt.ok {
				t.Errorf("call = %v, want it to work: %v", err, tt.ok)
			}
			if !tt.ok && len(s.hellos) > 0 {
				t.Error("the ticket was sent all the same")
			}
		})
	}
}

func csr(t *testing.T) string {
	t.Helper()
	id, err := newIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return id.csr
}

func TestClockFollowsThePinnedServerOnly(t *testing.T) {
	// Moving this machine's clock for a test would disturb all others, so
	// the server's certificate is from another time instead.
	past := time.Now().Add(-300 * 24 * time.Hour)
	tests := map[string]struct {
		date string
		ok   bool
	}{
		"a time in which its certificate is good": {past.Add(time.Minute).UTC().Format(http.TimeFormat), true},
		"a time before its certificate":           {past.Add(-48 * time.Hour).UTC().Format(http.TimeFormat), false},
		"a time after its certificate":            {time.Now().UTC().Format(http.TimeFormat), false},
		"no time at all":                          {"soon", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newScripted(t)
			s.ca.cert.NotBefore = past.Add(-time.Hour)
			s.ca.cert = s.ca.sign(s.ca.cert, s.ca.cert, &s.ca.key.PublicKey)
			s.reply = func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Date", tt.date) }
			srv := s.startWith("", s.ca.server(past, past.Add(time.Hour)))
			var set time.Time
			c, err := newClient(srv.URL, s.ca.pin(), slog.New(slog.DiscardHandler), func(t time.Time) error {
				set = t
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			// The clock is not really moved, so that the call fails either way.
			err = c.call(t.Context(), api.PathHello, api.HelloRequest{}, &api.HelloReply{}, time.Minute)
			if !badDates(err) {
				t.Errorf("call = %v, want one about dates", err)
			}
			if tt.ok != !set.IsZero() || tt.ok && set.UTC().Format(http.TimeFormat) != tt.date {
				t.Errorf("clock set to %v, want %s: %v", set, tt.date, tt.ok)
			}
			if len(s.hellos) > 0 {
				t.Error("something was said to a server whose certificate is over")
			}
		})
	}
}

func TestClockThatIsRightIsLeftAlone(t *testing.T) {
	s := newScripted(t)
	srv := s.start("")
	c, err := newClient(srv.URL, s.ca.pin(), slog.New(slog.DiscardHandler), func(now time.Time) error {
		t.Errorf("clock set to %v", now)
		return errors.New("no")
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.http.CloseIdleConnections()
	if err := c.call(t.Context(), api.PathHello, api.HelloRequest{CSR: csr(t)}, &api.HelloReply{}, time.Minute); err != nil {
		t.Error(err)
	}
}

func TestHelloIsRepeatedUntilThereIsAnAnswer(t *testing.T) {
	tests := map[string]struct {
		refuse func(int) int
		asked  int
		ok     bool
	}{
		"at once":                    {func(int) int { return 0 }, 1, true},
		"a server that is not ready": {func(n int) int { return map[bool]int{true: 503}[n < 3] }, 3, true},
		"a server that says no is not asked again": {func(int) int { return 403 }, 1, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newScripted(t)
			s.refuse = tt.refuse
			srv := s.start("")
			c, err := newClient(srv.URL, s.ca.pin(), slog.New(slog.DiscardHandler), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer c.http.CloseIdleConnections()
			id, err := newIdentity()
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			reply, err := hello(ctx, c, api.HelloRequest{Ticket: "T", BootID: "b"}, id)
			if (err == nil) != tt.ok || tt.ok && reply.NodeID != "n-1" {
				t.Errorf("hello = %+v, %v, want it to work: %v", reply, err, tt.ok)
			}
			if p, ok := errors.AsType[*api.Problem](err); !tt.ok && (!ok || p.Code != "E-TICKET" || !strings.Contains(err.Error(), "used up")) {
				t.Errorf("the reason is lost: %v", err)
			}
			if len(s.hellos) != tt.asked {
				t.Errorf("said hello %d times, want %d", len(s.hellos), tt.asked)
			}
			for _, h := range s.hellos {
				if h.Ticket != "T" || h.CSR != id.csr || h.BootID != "b" {
					t.Errorf("a repeated hello differs: %+v", h)
				}
			}
		})
	}
}
