package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rackstage/provision/agent/docker"
	"github.com/rackstage/provision/agent/fault"
	"github.com/rackstage/provision/api"
)

// installed is an installed system whose certificate lives for a while.
func installed(t *testing.T, s *scripted, url string, life time.Duration, log *slog.Logger) ServiceOptions {
	t.Helper()
	dir := t.TempDir()
	id, err := newIdentity()
	if err != nil {
		t.Fatal(err)
	}
	config, err := json.Marshal(Config{Server: url, CA: s.ca.pin()})
	if err != nil {
		t.Fatal(err)
	}
	o := ServiceOptions{Config: filepath.Join(dir, "agent.json"), State: dir, Socket: filepath.Join(dir, "docker.sock"), Version: "v", Log: log}
	for name, b := range map[string][]byte{o.Config: config, filepath.Join(dir, keyFile): id.keyPEM, filepath.Join(dir, certFile): []byte(s.ca.certify(id.csr, life))} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

func TestServiceRenewsItsCertificateInTime(t *testing.T) {
	s := newScripted(t)
	renewed := make(chan struct{})
	s.reply = func(w http.ResponseWriter, r *http.Request) {
		var c api.CertifyRequest
		s.read(r, &c)
		answer(w, http.StatusOK, api.CertifyReply{Certificate: s.ca.certify(c.CSR, 24*time.Hour)})
		close(renewed)
	}
	// A minute old, half a minute to live: two thirds are just over.
	o := installed(t, s, s.start("").URL, 29*time.Second, slog.New(slog.DiscardHandler))
	before, err := os.ReadFile(filepath.Join(o.State, certFile))
	if err != nil {
		t.Fatal(err)
	}
	svc, err := openService(o)
	if err != nil {
		t.Fatal(err)
	}
	defer svc.client.http.CloseIdleConnections()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); svc.renew(ctx) }()
	await(t, renewed)
	for svc.client.cert.Load().Leaf.NotAfter.Before(time.Now().Add(time.Hour)) && ctx.Err() == nil {
		<-time.After(time.Millisecond)
	}
	cancel()
	<-done
	after, err := os.ReadFile(filepath.Join(o.State, certFile))
	if err != nil || bytes.Equal(before, after) {
		t.Errorf("the certificate on the disk is the old one (%v)", err)
	}
	if _, err := tls.LoadX509KeyPair(filepath.Join(o.State, certFile), filepath.Join(o.State, keyFile)); err != nil {
		t.Errorf("key and certificate on the disk do not belong together: %v", err)
	}
}

func TestRenewalIsDueAtTwoThirds(t *testing.T) {
	born := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	got := renewAt(&x509.Certificate{NotBefore: born, NotAfter: born.Add(3 * time.Hour)})
	if want := born.Add(2 * time.Hour); !got.Equal(want) {
		t.Errorf("renewAt = %v, want %v", got, want)
	}
}

func TestTicketIsRedeemedOnceAndNeverLogged(t *testing.T) {
	tests := map[string]struct {
		status []int
		asked  int
		ok     bool
	}{
		"at once":                  {[]int{200}, 1, true},
		"a server that restarts":   {[]int{503, 200}, 2, true},
		"a ticket that is used up": {[]int{409, 200}, 1, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newScripted(t)
			var mu sync.Mutex
			asked := 0
			s.reply = func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				status := tt.status[asked]
				asked++
				answer(w, status, api.JoinReply{Token: "SWMTKN-secret", Managers: []string{"m:2377"}})
			}
			var out bytes.Buffer
			svc, err := openService(installed(t, s, s.start("").URL, time.Hour, slog.New(slog.NewTextHandler(&out, nil))))
			if err != nil {
				t.Fatal(err)
			}
			defer svc.client.http.CloseIdleConnections()
			reply, err := svc.redeem(t.Context(), "ticket-secret")
			if (err == nil) != tt.ok || tt.ok && reply.Token != "SWMTKN-secret" || !tt.ok && fault.CodeOf(err) != fault.JoinTicket {
				t.Errorf("redeem = %+v, %v, want it to work: %v", reply, err, tt.ok)
			}
			if asked != tt.asked {
				t.Errorf("asked %d times, want %d", asked, tt.asked)
			}
			if strings.Contains(out.String(), "secret") || err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("a secret was shown: %s %v", out.String(), err)
			}
		})
	}
}

func TestServiceRefusesWhatIsNotItsBusiness(t *testing.T) {
	svc := &service{engine: docker.New(filepath.Join(t.TempDir(), "none"))}
	for kind, step := range map[string]*api.Step{
		"a request off the list": {Kind: api.StepDocker, Docker: &api.DockerRequest{Method: "POST", Path: "/containers/create"}},
	} {
		if _, err := svc.doers()[step.Kind](t.Context(), step, nil); fault.CodeOf(err) != fault.DockerRefused {
			t.Errorf("%s: %v", kind, err)
		}
	}
	for _, kind := range []string{api.StepDisk, api.StepWrite, api.StepSeed, api.StepReboot, api.StepPowerOff} {
		if svc.doers()[kind] != nil {
			t.Errorf("an installed system does %q", kind)
		}
	}
}

func TestServiceThatCannotRunSaysWhy(t *testing.T) {
	s := newScripted(t)
	good := installed(t, s, "https://127.0.0.1:1", time.Hour, slog.New(slog.DiscardHandler))
	for name, spoil := range map[string]func(*ServiceOptions){
		"no configuration": func(o *ServiceOptions) { o.Config += ".none" },
		"no certificate":   func(o *ServiceOptions) { o.State += "/none" },
	} {
		o := good
		spoil(&o)
		if err := Service(t.Context(), o); err == nil || !strings.Contains(err.Error(), "none") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
