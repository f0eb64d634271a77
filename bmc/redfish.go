package bmc

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// A redfish is one conversation with a Redfish service: one connection, one
// login, and the end of it.
type redfish struct {
	target  Target
	client  *http.Client
	base    string // "https://10.0.9.14"
	tls     *guardian
	token   string            // of the session; "" signs in with each request
	session string            // path of the session that we have to end
	etags   map[string]string // by path, of what was read last
	wait    time.Duration     // for one answer
	due     time.Time         // it has answered twice by then; zero: no matter
	answers int
	longest time.Duration // of them
	taken   atomic.Bool   // a connection was, by the transport's own goroutine
	owing   string        // path of the account whose password has to be changed before anything else
}

// slow is an answer that a BMC in good health does not take.
const slow = 2 * time.Second

const (
	rootPath  = "/redfish/v1/"
	largest   = 4 << 20 // of an answer
	connectIn = 4 * time.Second
	dieIn     = 2 * time.Second // to end a session, of a service that is not slow
)

// talkRedfish has one conversation with a Redfish service, signed in. It
// passes the BMC's gate, has our deadline, and ends the session.
func talkRedfish[T any](ctx context.Context, c *Controller, t Target, f func(context.Context, *redfish) (T, error)) (T, error) {
	return guard(ctx, c, t, func(ctx context.Context) (none T, err error) {
		r, err := c.openRedfish(ctx, t)
		if err != nil {
			return none, reason(ctx, err)
		}
		defer r.hangUp(ctx)
		value, err := f(ctx, r)
		if err != nil {
			return none, early(ctx, reason(ctx, err))
		}
		return value, nil
	})
}

// openRedfish signs in to a service whose certificate is pinned.
func (c *Controller) openRedfish(ctx context.Context, t Target) (*redfish, error) {
	if t.Pin == "" {
		return nil, ErrNotProbed
	}
	r, err := c.newRedfish(t)
	if err != nil {
		return nil, err
	}
	if !r.target.BasicAuth {
		if err := r.login(ctx); err != nil {
			r.hangUp(ctx)
			return nil, err
		}
	}
	return r, nil
}

// newRedfish makes a conversation in which nothing was said yet.
func (c *Controller) newRedfish(t Target) (*redfish, error) {
	host, port, err := t.at(t.Ports.HTTPS, httpsPort)
	if err != nil {
		return nil, err
	}
	t.BasicAuth = t.BasicAuth || t.Quirks.NoSessions
	g := guardianOf(t)
	at := net.JoinHostPort(host, strconv.Itoa(port))
	r := &redfish{target: t, base: "https://" + at, tls: &g, etags: map[string]string{}, wait: max(c.timeout(t)*9/10, c.timeout(t)-500*time.Millisecond)}
	if t.leisure == 0 {
		r.due = time.Now().Add(c.timeout(t))
	}
	transport := &http.Transport{
		TLSClientConfig: g.config(), TLSHandshakeTimeout: connectIn, MaxConnsPerHost: 1, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			inner, cancel := context.WithTimeout(ctx, connectIn)
			defer cancel()
			conn, err := c.o.Dial(inner, network, at)
			if err != nil && inner.Err() != nil {
				return nil, ErrNoAnswer
			}
			if err == nil {
				reached(ctx)
				r.taken.Store(true)
			}
			return conn, err
		},
	}
	r.client = &http.Client{Transport: &signer{r, transport}, CheckRedirect: redirected}
	return r, nil
}

// redirected lets a service send us to another of its own paths only: our
// password goes along.
func redirected(req *http.Request, via []*http.Request) error {
	const most = 3
	from := via[0].URL
	same := req.URL.Scheme == "https" && req.URL.Hostname() == from.Hostname() && cmp.Or(req.URL.Port(), "443") == cmp.Or(from.Port(), "443")
	if !same || len(via) > most {
		return fmt.Errorf("%w: it sends us to %.64q", ErrRejected, req.URL.Host)
	}
	return nil
}

// A signer puts the login into each request, and keeps the connection: gofish
// would open a new one for each.
type signer struct {
	r    *redfish
	next *http.Transport
}

// RoundTrip implements http.RoundTripper.
func (s *signer) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Close = false
	req.Header.Set("OData-Version", "4.0")
	switch {
	case s.r.token != "":
		req.Header.Set("X-Auth-Token", s.r.token)
	case s.r.target.BasicAuth:
		req.SetBasicAuth(s.r.target.Username, string(s.r.target.Password))
	}
	res, err := s.next.RoundTrip(req)
	if err == nil {
		res.Body = &bounded{res.Body, largest}
	}
	return res, err
}

var errTooLong = fmt.Errorf("%w: its answer is longer than %d MiB", ErrRejected, largest>>20)

// A bounded body ends with an error where it gets too long.
type bounded struct {
	io.ReadCloser
	left int64
}

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLong
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// get reads a resource into v, and remembers its ETag.
func (r *redfish) get(ctx context.Context, path string, v any) error {
	res, err := r.send(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	if tag := res.header.Get("ETag"); tag != "" {
		r.etags[path] = tag
	}
	if err := json.Unmarshal(res.body, v); err != nil {
		return r.target.legible(fmt.Errorf("%w: what it says of %s is no JSON of that kind (%v)", ErrRejected, path, err))
	}
	return nil
}

// patch changes a resource. When it was read in this conversation and had an
// ETag, it has to be as it was then.
func (r *redfish) patch(ctx context.Context, path string, body any) error {
	_, err := r.send(ctx, http.MethodPatch, path, body)
	return err
}

// post calls an action or adds to a collection. It returns where the new
// resource or the task is: "" when the service does not say.
func (r *redfish) post(ctx context.Context, path string, body any) (location string, err error) {
	res, err := r.send(ctx, http.MethodPost, path, body)
	if err != nil {
		return "", err
	}
	return localPath(res.header.Get("Location")), nil
}

// remove deletes a resource.
func (r *redfish) remove(ctx context.Context, path string) error {
	_, err := r.send(ctx, http.MethodDelete, path, nil)
	return err
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

// send sends a request and reads all of its answer. What is not 2xx becomes
// one of this package's errors.
func (r *redfish) send(ctx context.Context, method, path string, body any) (answer, error) {
	if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") {
		return answer{}, fmt.Errorf("%w: it names a path %.64q", ErrRejected, path)
	}
	var payload io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return answer{}, fmt.Errorf("encode request: %w", err)
		}
		payload = bytes.NewReader(raw)
	}
	ctx, cancel := context.WithTimeout(ctx, r.patience())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, r.base+path, payload)
	if err != nil {
		return answer{}, fmt.Errorf("%w: it names a path %.64q", ErrRejected, path)
	}
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if tag := r.etags[path]; tag != "" && method == http.MethodPatch {
		req.Header.Set("If-Match", tag)
	}
	res, err := r.exchange(req)
	if err != nil {
		return answer{}, r.target.legible(fmt.Errorf("%s %s: %w", method, req.URL.Path, err))
	}
	return res, nil
}

// patience is how long an answer may take: one that is dead or hangs is named within
// the time of one conversation, and so is one that has answered once, late. Who has
// answered twice by then gets to the end of what is asked.
func (r *redfish) patience() time.Duration {
	const enough = 2
	if r.answers >= enough || r.due.IsZero() {
		return r.wait
	}
	return min(r.wait, time.Until(r.due))
}

func (r *redfish) exchange(req *http.Request) (answer, error) {
	began := time.Now()
	res, err := r.client.Do(req)
	if err != nil {
		return answer{}, r.failure(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		return answer{}, r.failure(err)
	}
	r.answers++
	r.longest = max(r.longest, time.Since(began))
	if res.StatusCode < 200 || res.StatusCode > 299 {
		said := newStatusError(res.StatusCode, raw, r.target.quote)
		r.owing = cmp.Or(said.account, r.owing)
		return answer{}, said
	}
	if r.token != "" || r.target.BasicAuth {
		admitted(req.Context())
	}
	return answer{res.StatusCode, res.Header, raw}, nil
}

// failure names what went wrong on the wire: a BMC that took our connection
// and says nothing is another matter than one that is not there, and so is one
// that talks rubbish.
func (r *redfish) failure(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // the rest is said already
	}
	timeout, ok := errors.AsType[net.Error](err)
	switch {
	case !r.taken.Load() || errors.Is(err, ErrPin) || errors.Is(err, ErrRejected) || errors.Is(err, context.Canceled):
		return err
	case (errors.Is(err, context.DeadlineExceeded) || ok && timeout.Timeout()) && r.longest > slow:
		return fmt.Errorf("%w: %d answers, one after %s", ErrSlow, r.answers, r.longest.Round(100*time.Millisecond))
	case errors.Is(err, context.DeadlineExceeded) || ok && timeout.Timeout():
		return fmt.Errorf("%w (%v)", ErrHangs, err)
	}
	return fmt.Errorf("%w: its answer cannot be read (%v)", ErrRejected, err)
}

// login opens a session.
func (r *redfish) login(ctx context.Context) error {
	if r.target.Quirks.NoSessions {
		return fmt.Errorf("%w: sessions", ErrUnsupported)
	}
	path := r.sessions(ctx)
	res, err := r.send(ctx, http.MethodPost, path, map[string]string{"UserName": r.target.Username, "Password": string(r.target.Password)})
	if err != nil {
		return sessionError(err)
	}
	r.token = res.header.Get("X-Auth-Token")
	r.target.token = Password(r.token)
	var opened resource
	_ = json.Unmarshal(res.body, &opened) // some say it there only
	r.session = cmp.Or(localPath(res.header.Get("Location")), localPath(opened.Path))
	if r.token == "" {
		return fmt.Errorf("%w: it opens a session without a token", ErrRejected)
	}
	var said struct {
		Extended []message `json:"@Message.ExtendedInfo"`
	}
	_ = json.Unmarshal(res.body, &said) // some answer with nothing
	for _, m := range said.Extended[:min(len(said.Extended), mostMessages)] {
		if path, yes := m.wantsChange(); yes {
			r.owing = path
		}
	}
	return nil
}

// sessions returns where sessions are made: all services that we know of have
// them here, which saves reading the root each time.
func (r *redfish) sessions(context.Context) string { return rootPath + "SessionService/Sessions" }

// hangUp ends the session: a BMC has few.
func (r *redfish) hangUp(ctx context.Context) {
	r.due = time.Time{} // the end of a session is always sent
	if r.session != "" {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.parting())
		defer cancel()
		_ = r.remove(ctx, r.session) // a session that is lost ends by itself
	}
	r.token, r.session = "", ""
	r.client.CloseIdleConnections()
}

// parting is how long the end of a session may take.
func (r *redfish) parting() time.Duration { return max(dieIn, 2*r.longest) }

// CloseIdleConnections implements what [http.Client] looks for.
func (s *signer) CloseIdleConnections() { s.next.CloseIdleConnections() }

// localPath returns the path of a link that a service gave: some give a whole
// URL, and its host is none of our business.
func localPath(link string) string {
	u, err := url.Parse(link)
	if err != nil || !strings.HasPrefix(u.Path, "/") {
		return ""
	}
	return u.Path
}

// localPage is localPath with the query, which says where a page begins.
func localPage(link string) string {
	path := localPath(link)
	if u, err := url.Parse(link); err == nil && path != "" && u.RawQuery != "" {
		path += "?" + u.RawQuery
	}
	return path
}
