package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// DefaultSocket is where the server of the same machine listens.
const DefaultSocket = "/run/provision/api.sock"

// ClientOptions say where a server is and how to be let in.
type ClientOptions struct {
	Server    string // "unix:/run/provision/api.sock", "https://host:8443"; "": the default socket
	TokenFile string // file with a session token; none is needed on the socket
	CAFile    string // PEM; "": the system's
	CAPin     string // "sha256:<hex>" of the CA certificate (DER) that must stand in the server's chain
}

// Client speaks to one server.
type Client struct {
	server string // as it was given, for messages
	base   string
	token  string
	http   *http.Client
}

// UnreachableError says that a server gave no answer at all.
type UnreachableError struct {
	Server string // what was tried
	Err    error
}

// Error names the server and the cause.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("no answer from %s: %v", e.Server, e.Err)
}

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// NewClient returns a client. It connects to nothing yet.
func NewClient(o ClientOptions) (*Client, error) {
	if o.Server == "" {
		o.Server = "unix:" + DefaultSocket
	}
	c := &Client{server: o.Server}
	if err := c.readToken(o.TokenFile); err != nil {
		return nil, err
	}
	transport := &http.Transport{MaxIdleConns: 4, IdleConnTimeout: 30 * time.Second, ResponseHeaderTimeout: 90 * time.Second}
	c.http = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if path, ok := strings.CutPrefix(o.Server, "unix:"); ok {
		c.base = "http://provision"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", strings.TrimPrefix(path, "//"))
		}
		return c, nil
	}
	base, err := url.Parse(o.Server)
	if err != nil || base.Host == "" || base.Scheme != "https" {
		return nil, fmt.Errorf("server %q: write unix:/path or https://host:port", o.Server)
	}
	c.base = "https://" + base.Host
	transport.TLSClientConfig, err = clientTLS(o, base.Hostname())
	return c, err
}

// patient returns the client for calls that last as long as a machine or a
// person takes, which the context alone ends.
func (c *Client) patient() *Client {
	p := *c
	h := *c.http
	if t, ok := h.Transport.(*http.Transport); ok {
		t = t.Clone()
		t.ResponseHeaderTimeout, t.DisableKeepAlives = 0, true
		h.Transport = t
	}
	p.http = &h
	return &p
}

func (c *Client) readToken(file string) error {
	if file == "" {
		return nil
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read token: %w", err)
	}
	c.token = strings.TrimSpace(string(raw))
	if c.token == "" || strings.ContainsAny(c.token, "\r\n\t ") {
		return fmt.Errorf("read token: %s does not hold one word", file)
	}
	return nil
}

// clientTLS trusts the CA of a file, the CA with a fingerprint, or, if
// neither is given, the system's CAs.
func clientTLS(o ClientOptions, host string) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS13}
	if o.CAFile != "" {
		raw, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read CA: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(raw) {
			return nil, fmt.Errorf("read CA: no certificate in %s", o.CAFile)
		}
	}
	if o.CAPin == "" {
		return conf, nil
	}
	return conf, pinTLS(conf, o.CAPin, host)
}

// PinnedTLS is for connections to a host whose certificate comes from the CA
// with this fingerprint, "sha256:<hex>", and from no other.
func PinnedTLS(pin, host string) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS13}
	return conf, pinTLS(conf, pin, host)
}

func pinTLS(conf *tls.Config, caPin, host string) error {
	text, _ := strings.CutPrefix(caPin, "sha256:")
	pin, err := hex.DecodeString(text)
	if err != nil || len(pin) != sha256.Size {
		return fmt.Errorf("CA pin %q: write sha256: and 64 hex digits", caPin)
	}
	// The pin replaces the system's trust; VerifyConnection does the whole
	// check, the host name included.
	conf.InsecureSkipVerify = conf.RootCAs == nil
	conf.VerifyConnection = func(state tls.ConnectionState) error {
		return verifyPinned(state.PeerCertificates, host, [32]byte(pin))
	}
	return nil
}

// verifyPinned accepts a chain that leads to the pinned CA certificate,
// which the server sends along, and names the host (state.ServerName is
// empty when the host is an address).
func verifyPinned(chain []*x509.Certificate, host string, pin [32]byte) error {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	found := false
	if len(chain) == 0 {
		return errors.New("the server shows no certificate")
	}
	for _, cert := range chain[1:] {
		if sha256.Sum256(cert.Raw) == pin && cert.IsCA {
			roots.AddCert(cert)
			found = true
			continue
		}
		between.AddCert(cert)
	}
	if !found {
		return errors.New("the server's certificate does not come from the pinned CA")
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: host})
	return err
}

// call sends one request and reads one JSON answer into out (nil: none).
func (c *Client) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	res, err := c.send(ctx, method, path, query, in, "application/json")
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if out == nil {
		_, err := io.Copy(io.Discard, io.LimitReader(res.Body, 1<<20))
		return err
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, 256<<20)).Decode(out); err != nil {
		return fmt.Errorf("read answer of %s: %w", c.server, err)
	}
	return nil
}

// send sends one request. Its answer is one of success: anything else
// becomes an error.
func (c *Client) send(ctx context.Context, method, path string, query url.Values, in any, accept string) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(raw)
	}
	target := c.base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", accept)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	res, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err // without the URL, which says nothing new
		}
		return nil, &UnreachableError{Server: c.server, Err: err}
	}
	if res.StatusCode/100 != 2 {
		defer res.Body.Close()
		return nil, readProblem(res)
	}
	return res, nil
}

// ReadProblem reads an answer that is not a success, of a request that was made
// with what [Client.Socket] gave.
func ReadProblem(res *http.Response) error { return readProblem(res) }

// readProblem turns an answer that is not a success into a [Problem], also
// when something between us and the server wrote it.
func readProblem(res *http.Response) error {
	p := &Problem{}
	err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(p)
	if err != nil || p.Title == "" {
		p = &Problem{Title: http.StatusText(res.StatusCode), Detail: "the server answered " + res.Status}
	}
	p.Status = res.StatusCode
	return p
}

// Close lets go of connections that are idle.
func (c *Client) Close() { c.http.CloseIdleConnections() }
