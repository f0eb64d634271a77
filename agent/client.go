package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rackstage/provision/api"
)

const (
	mostReply = 64 << 20 // the index of a very large image
	oneCall   = 20 * time.Second
)

// A client speaks to the one server that it was told, and proves to be its
// node once it has a certificate.
type client struct {
	server   *url.URL
	pin      Pin
	log      *slog.Logger
	setClock func(time.Time) error // nil: leave the clock alone
	http     *http.Client
	cert     atomic.Pointer[tls.Certificate]
}

func newClient(server, pin string, log *slog.Logger, setClock func(time.Time) error) (*client, error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("server %.200q is not an https:// address", server)
	}
	p, err := ParsePin(pin)
	if err != nil {
		return nil, err
	}
	c := &client{server: u, pin: p, log: log, setClock: setClock}
	config := p.config(u.Hostname(), func([]*x509.Certificate) time.Time { return time.Now() })
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if cert := c.cert.Load(); cert != nil {
			return cert, nil
		}
		return &tls.Certificate{}, nil // hello needs none
	}
	c.http = &http.Client{Transport: &http.Transport{
		TLSClientConfig:     config,
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second,
		IdleConnTimeout:     2 * time.Minute,
	}}
	return c, nil
}

// use makes all further calls with this certificate.
func (c *client) use(cert *tls.Certificate) {
	c.cert.Store(cert)
	c.http.CloseIdleConnections()
}

// expired reports whether our own certificate is no good any more.
func (c *client) expired() bool {
	cert := c.cert.Load()
	return cert != nil && time.Now().After(cert.Leaf.NotAfter)
}

// call sends in, if there is any, and reads the answer into out. An answer
// that is an error comes back as *api.Problem.
func (c *client) call(ctx context.Context, path string, in, out any, patience time.Duration) error {
	err := c.once(ctx, path, in, out, patience)
	if err == nil || !badDates(err) || c.setClock == nil {
		return err
	}
	now, timeErr := askTime(ctx, c.server, c.pin)
	if timeErr != nil {
		return fmt.Errorf("%w; %w", err, timeErr)
	}
	c.adjust(now)
	return c.once(ctx, path, in, out, patience)
}

func (c *client) once(ctx context.Context, path string, in, out any, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := c.request(ctx, path, in)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() // read to its end
	body, err := io.ReadAll(io.LimitReader(resp.Body, mostReply))
	if err != nil {
		return fmt.Errorf("read answer of %s: %w", c.server.Host, err)
	}
	c.checkClock(resp)
	if resp.StatusCode >= http.StatusMultipleChoices {
		return problem(resp, body)
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("read answer of %s: %w", c.server.Host, err)
	}
	return nil
}

func (c *client) request(ctx context.Context, path string, in any) (*http.Request, error) {
	address := strings.TrimSuffix(c.server.String(), "/") + path
	if in == nil {
		return http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	}
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	return req, nil
}

// problem makes an error of an answer, also of one that is no problem+json.
func problem(resp *http.Response, body []byte) error {
	p := &api.Problem{}
	if json.Unmarshal(body, p) != nil || p.Title == "" && p.Detail == "" {
		p = &api.Problem{Title: resp.Status}
	}
	p.Status = resp.StatusCode
	return p
}

// checkClock follows the server's clock when ours is far off: a cluster
// refuses a node that lives in another hour.
func (c *client) checkClock(resp *http.Response) {
	now, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil || c.setClock == nil {
		return
	}
	if off := time.Until(now); off > tolerance || off < -tolerance {
		c.adjust(now)
	}
}

func (c *client) adjust(now time.Time) {
	off := time.Until(now).Round(time.Second)
	if err := c.setClock(now); err != nil {
		c.log.Warn("clock not set", "off", off, "err", err)
		return
	}
	c.log.Info("clock set to the server's", "off", off, "now", now.UTC().Format(time.RFC3339))
}
