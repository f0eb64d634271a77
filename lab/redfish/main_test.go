package redfish_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rackstage/provision/lab/redfish"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A caller is a client that knows nothing of Redfish.
type caller struct {
	t      *testing.T
	v      *redfish.Server
	client *http.Client
	token  string
	basic  bool
	header map[string]string // for the next request
}

// start puts a service on a port, with a caller that signs in with each
// request.
func start(t *testing.T, o redfish.Options) *caller {
	t.Helper()
	v, err := redfish.Listen(t.Context(), "127.0.0.1:0", redfish.New(o))
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // it is what is tested
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	})
	return &caller{t: t, v: v, client: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}, basic: true}
}

// memory is a service with one machine, and the machine.
func memory(t *testing.T, f redfish.Faults) (*caller, *redfish.Memory) {
	t.Helper()
	m := new(redfish.Memory)
	return start(t, redfish.Options{Systems: []redfish.System{{Machine: m}}, Faults: f}), m
}

func (c *caller) do(method, path string, in any) (*http.Response, map[string]any) {
	c.t.Helper()
	r, body, err := c.try(c.t.Context(), method, path, in)
	if err != nil {
		c.t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(body, &out); err != nil && len(body) > 0 {
		c.t.Fatalf("%s %s: %v in %q", method, path, err, body)
	}
	return r, out
}

func (c *caller) try(ctx context.Context, method, path string, in any) (*http.Response, []byte, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, nil, err
		}
		body = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, "https://"+c.v.Addr()+path, body)
	if err != nil {
		return nil, nil, err
	}
	if c.token != "" {
		r.Header.Set("X-Auth-Token", c.token)
	} else if c.basic {
		r.SetBasicAuth("admin", "Secret123Secret1")
	}
	for name, value := range c.header {
		r.Header.Set(name, value)
	}
	c.header = nil
	answer, err := c.client.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	return answer, b, err
}

// want makes a request and compares the status.
func (c *caller) want(status int, method, path string, in any) map[string]any {
	c.t.Helper()
	r, out := c.do(method, path, in)
	if r.StatusCode != status {
		c.t.Errorf("%s %s: status %d, want %d: %v", method, path, r.StatusCode, status, out)
	}
	return out
}

func (c *caller) get(path string) map[string]any {
	c.t.Helper()
	return c.want(http.StatusOK, http.MethodGet, path, nil)
}

// dig follows names into an answer.
func dig(o any, names ...string) any {
	for _, n := range names {
		m, ok := o.(map[string]any)
		if !ok {
			return nil
		}
		o = m[n]
	}
	return o
}

// eventually waits until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("in vain waited for: %s", what)
		}
	}
}

type object = map[string]any
