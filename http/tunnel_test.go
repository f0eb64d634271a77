package http

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"

	"github.com/rackstage/provision/api"
)

// TestAMachinesOwnTLSGoesThroughATunnel says hello through a relay: the server
// sees the machine's address, and the machine a certificate for the address
// that it connected to.
func TestAMachinesOwnTLSGoesThroughATunnel(t *testing.T) {
	s := newRelaySite(t)
	near, far := net.Pipe()
	req, _ := http.NewRequestWithContext(t.Context(), "POST", s.base+api.PathRelayTunnel, far)
	req.Header.Set(api.HeaderMachine, "10.78.0.50:4711")
	req.Header.Set(api.HeaderLocal, "10.78.0.1")
	res, err := s.client.Do(req)
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("tunnel: %v, %v", res, err)
	}
	go func() { _, _ = io.Copy(far, res.Body); _ = far.Close() }()
	agent := newAgentKey(t)
	raw, _ := json.Marshal(api.HelloRequest{Ticket: "good", BootID: "b", MAC: "52:54:00:00:00:77", CSR: agent.request(t)})
	inside := &http.Transport{
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			c := tls.Client(near, &tls.Config{RootCAs: s.roots(), ServerName: "10.78.0.1", MinVersion: tls.VersionTLS13})
			return c, c.HandshakeContext(ctx)
		},
	}
	hello, err := (&http.Client{Transport: inside}).Post("https://10.78.0.1:8443"+api.PathHello, "application/json", bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	_ = hello.Body.Close()
	inside.CloseIdleConnections()
	_ = near.Close()
	_ = res.Body.Close()
	if hello.StatusCode != 200 || len(s.engine.hellos) != 1 || s.engine.hellos[0].Addr.String() != "10.78.0.50" {
		t.Errorf("status %d, hellos %+v; want one from 10.78.0.50", hello.StatusCode, s.engine.hellos)
	}
}

// TestARackOfTunnels holds more tunnels than one connection has streams for.
func TestARackOfTunnels(t *testing.T) {
	s := newRelaySite(t)
	const rack = 200
	var opened sync.WaitGroup
	ends := make([]*io.PipeWriter, rack)
	for i := range rack {
		body, end := io.Pipe()
		ends[i] = end
		opened.Go(func() {
			req, _ := http.NewRequestWithContext(t.Context(), "POST", s.base+api.PathRelayTunnel, io.NopCloser(body))
			req.Header.Set(api.HeaderMachine, fmt.Sprintf("10.78.0.%d:4711", 50+i))
			req.Header.Set(api.HeaderLocal, "10.78.0.1")
			req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(body), nil } // as a relay does: nothing of it was read
			res, err := s.client.Do(req)
			if err != nil || res.StatusCode != 200 {
				t.Errorf("tunnel %d: %v, %v", i, res, err)
				return
			}
			t.Cleanup(func() { _ = res.Body.Close() })
		})
	}
	opened.Wait()
	for _, end := range ends {
		_ = end.Close()
	}
}
