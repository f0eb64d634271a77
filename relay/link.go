package relay

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

// A link is the relay's way to its server: one TLS connection for what the
// relay says itself, others for the machines.
type link struct {
	id   *identity
	base string
	cert atomic.Pointer[tls.Certificate]

	control  *http.Client
	files    *http.Client
	machines *http.Client
}

const (
	callTime = 3 * time.Second
	fileTime = 20 * time.Second // for the headers; the bytes take what they take

	// Of each kind. The server takes 128 connections of one address; when many
	// machines come at once, each would dial before the first one is through.
	maxConns = 40
)

// newLink makes a link. names are asked for the server's; nil: the system's.
func newLink(id *identity, names *net.Resolver) (*link, error) {
	u, err := url.Parse(id.Server)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fleet.Invalidf("server "+id.Server, "write https://HOST:PORT", errors.New("not an address"))
	}
	l := &link{id: id, base: "https://" + u.Host}
	if id.Certificate != "" {
		pair, err := pairOf(id.Certificate, id.Key)
		if err != nil {
			return nil, err
		}
		l.cert.Store(pair)
	}
	for _, c := range []**http.Client{&l.control, &l.files, &l.machines} {
		conf, err := api.PinnedTLS(id.Pin, u.Hostname())
		if err != nil {
			return nil, err
		}
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if pair := l.cert.Load(); pair != nil {
				return pair, nil
			}
			return &tls.Certificate{}, nil
		}
		*c = &http.Client{
			Transport: &http.Transport{
				DialContext:       id.dial(&net.Dialer{Timeout: fileTime, Resolver: names}),
				ForceAttemptHTTP2: true, TLSClientConfig: conf, TLSHandshakeTimeout: callTime, DisableCompression: true,
				IdleConnTimeout: time.Minute, ResponseHeaderTimeout: fileTime, MaxConnsPerHost: maxConns,
				HTTP2: &http.HTTP2Config{SendPingTimeout: 5 * time.Second, PingTimeout: 5 * time.Second},
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	return l, nil
}

func (l *link) close() {
	for _, c := range []*http.Client{l.control, l.files, l.machines} {
		c.CloseIdleConnections()
	}
}

// A refusal is an answer of the server that is not success: it is there, and
// says no.
type refusal struct {
	status int
	code   string
	text   string
}

// removed reports whether the server knows this relay no more. Whatever else
// it refuses, it may take the next time.
func (r *refusal) removed() bool { return r.status == http.StatusUnauthorized && r.code == "E-RELAY" }

// Error says what the server said.
func (r *refusal) Error() string { return fmt.Sprintf("the server answered %d: %s", r.status, r.text) }

// call sends one request of the relay's own.
func (l *link) call(ctx context.Context, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	raw, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.base+path, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := l.control.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return refused(res)
	}
	return json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(out)
}

func refused(res *http.Response) error {
	var p api.Problem
	if json.NewDecoder(io.LimitReader(res.Body, 1<<16)).Decode(&p) != nil || p.Detail == "" {
		p.Detail = http.StatusText(res.StatusCode)
	}
	if res.StatusCode == http.StatusNotFound && p.Code == "E-PATH" && p.Hint != "" { // of a file that is missing it gives no hint
		p.Detail = "it does not know " + res.Request.URL.Path + ": it is older than this relay; upgrade the server"
	}
	return &refusal{status: res.StatusCode, code: p.Code, text: fleet.CleanText(p.Detail)}
}

// enrol redeems the token.
func (l *link) enrol(ctx context.Context, secret string) error {
	csr, err := l.id.request()
	if err != nil {
		return err
	}
	var reply api.RelayEnrolReply
	if err := l.call(ctx, api.PathRelayEnrol, api.RelayEnrolRequest{Token: secret, CSR: csr}, &reply); err != nil {
		return &fleet.Error{Kind: fleet.Unreachable, Op: "enrol at", On: l.base, Err: err, Hint: "check address and token; on the server: provision relays list"}
	}
	return l.adopt(reply.Name, reply.Certificate)
}

// renew gets a fresh certificate for the same key.
func (l *link) renew(ctx context.Context) error {
	csr, err := l.id.request()
	if err != nil {
		return err
	}
	var reply api.RelayRenewReply
	if err := l.call(ctx, api.PathRelayRenew, api.RelayRenewRequest{CSR: csr}, &reply); err != nil {
		return fmt.Errorf("renew certificate: %w", err)
	}
	return l.adopt(l.id.Name, reply.Certificate)
}

// adopt takes a certificate on. One that cannot be kept is used all the same:
// the one before it ends.
func (l *link) adopt(name, certificate string) error {
	pair, err := pairOf(certificate, l.id.Key)
	if err != nil {
		return err
	}
	err = l.id.change(func(id *identity) { id.Name, id.Certificate = name, certificate })
	l.cert.Store(pair)
	l.close() // so that the next connection shows it
	return err
}

func (l *link) report(ctx context.Context, r api.RelayReport) error {
	return l.call(ctx, api.PathRelayReport, r, &struct{}{})
}

// maxSnapshot bounds what we take in: 100,000 nodes have some 20 MB.
const (
	maxSnapshot  = 256 << 20
	snapshotTime = 10 * time.Minute // over a thin line
)

// snapshot fetches what the server knows of our subnets, unless it is what we
// have.
func (l *link) snapshot(ctx context.Context, have string) (s *api.RelaySnapshot, tag string, err error) {
	ctx, cancel := context.WithTimeout(ctx, snapshotTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.base+api.PathRelaySnapshot, nil)
	if err != nil {
		return nil, "", err
	}
	if have != "" {
		req.Header.Set("If-None-Match", have)
	}
	res, err := l.control.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusNotModified:
		return nil, have, nil
	case http.StatusOK:
	default:
		return nil, "", refused(res)
	}
	s = &api.RelaySnapshot{}
	if err := json.NewDecoder(io.LimitReader(res.Body, maxSnapshot)).Decode(s); err != nil {
		return nil, "", fmt.Errorf("read snapshot: %w", err)
	}
	return s, res.Header.Get("ETag"), nil
}

// file is a [fetch] of a boot file.
func (l *link) file(name string) fetch {
	return func(ctx context.Context, w io.Writer) error {
		return l.pull(ctx, api.PathRelayFiles+escapePath(name), w)
	}
}

func escapePath(name string) string { return (&url.URL{Path: name}).EscapedPath() }

// chunk is a [fetch] of a piece of an image. Many may wait for it, of whom none
// asks alone: it is fetched in our own name.
func (l *link) chunk(id string) fetch {
	return func(ctx context.Context, w io.Writer) error {
		return l.pull(ctx, api.PathRelayChunks+id[:4]+"/"+id+".cacnk", w)
	}
}

// stall is how long a transfer may stand still.
const stall = 30 * time.Second

func (l *link) pull(ctx context.Context, path string, w io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.base+path, nil)
	if err != nil {
		return err
	}
	res, err := l.files.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return refused(res)
	}
	watch := time.AfterFunc(stall, cancel)
	defer watch.Stop()
	n, err := io.Copy(w, &watched{res.Body, watch})
	if err == nil && res.ContentLength >= 0 && n != res.ContentLength {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// watched is a body that says when bytes came.
type watched struct {
	io.Reader
	timer *time.Timer
}

func (r *watched) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.timer.Reset(stall)
	return n, err
}

// A speaker is the machine that we speak for, and our address that it wrote to.
type speaker struct {
	machine netip.AddrPort
	local   netip.Addr
}

func (s speaker) sign(req *http.Request) {
	req.Header.Set(api.HeaderMachine, s.machine.String())
	req.Header.Set(api.HeaderLocal, s.local.String())
}

// ask passes a machine's request on to the server's own listeners.
func (l *link) ask(ctx context.Context, method, pathAndQuery string, who speaker, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, l.base+pathAndQuery, nil)
	if err != nil {
		return nil, err
	}
	maps.Copy(req.Header, header)
	who.sign(req)
	return l.machines.Do(req)
}
