package image

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/rackstage/provision/fleet"
)

// fetch downloads a URL into the store's tmp folder and checks its SHA-256.
func (s *Store) fetch(ctx context.Context, from, sum string, log *slog.Logger) (file string, forget func(), err error) {
	if err := checkURL(from); err != nil {
		return "", nil, err
	}
	out, err := os.CreateTemp(s.path("tmp"), "fetch-*")
	if err != nil {
		return "", nil, fmt.Errorf("fetch %s: %w", from, err)
	}
	forget = func() { os.Remove(out.Name()) }
	got, n, err := s.download(ctx, from, out)
	if err := errors.Join(err, out.Close()); err != nil {
		forget()
		return "", nil, unreachable(from, err)
	}
	log.InfoContext(ctx, "image fetched", "url", redacted(from), "bytes", n)
	if got != sum {
		forget()
		return "", nil, wrongDigest(redacted(from), got, sum)
	}
	return out.Name(), forget, nil
}

// unreachable says that a URL could not be fetched, without the URL as
// net/http would repeat it: there may be a password in it.
func unreachable(from string, err error) error {
	if e, ok := errors.AsType[*fleet.Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	return &fleet.Error{
		Kind: fleet.Unreachable, Op: "fetch", On: redacted(from), Err: err,
		Hint: "try the URL from this machine, or fetch the file by hand and import that",
	}
}

// redacted is a URL without what might be a password in it.
func redacted(from string) string {
	u, err := url.Parse(from)
	if err != nil {
		return "URL"
	}
	u.RawQuery, u.Fragment = "", ""
	return u.Redacted()
}

func checkURL(from string) error {
	u, err := url.Parse(from)
	if err != nil {
		return fleet.Invalidf("image URL", "give an http or https URL", errors.New("not a URL"))
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fleet.Invalidf("image "+redacted(from), "give an http or https URL, or the path of a file",
			fmt.Errorf("scheme %q is not fetched", u.Scheme))
	}
	return nil
}

// download writes what a URL gives to w and returns its SHA-256 and size.
func (s *Store) download(ctx context.Context, from string, w io.Writer) (sum string, n int64, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return "", 0, err
	}
	answer, err := s.client().Do(request)
	if err != nil {
		return "", 0, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return "", 0, errors.New(answer.Status)
	}
	if answer.ContentLength > s.maxBytes() {
		return "", 0, tooLarge(redacted(from), s.maxBytes())
	}
	if err := checkSpace(s.dir, answer.ContentLength); err != nil {
		return "", 0, err
	}
	h := sha256.New()
	n, err = io.Copy(io.MultiWriter(w, h), io.LimitReader(answer.Body, s.maxBytes()+1))
	if err != nil {
		return "", n, err
	}
	if n > s.maxBytes() {
		return "", n, tooLarge(redacted(from), s.maxBytes())
	}
	return hexSum(h), n, nil
}

// client is an HTTP client that cannot be sent to ourselves. The check is made
// on the address that is really connected to, so neither a name that resolves
// to it nor a redirect gets around it. It uses no proxy, whose address would be
// all that we see.
func (s *Store) client() *http.Client {
	dialer := &net.Dialer{
		Timeout: 15 * time.Second,
		Control: func(_, address string, _ syscall.RawConn) error { return s.checkAddress(address) },
	}
	return &http.Client{
		Transport: &http.Transport{
			DialContext: dialer.DialContext, ForceAttemptHTTP2: true, DisableKeepAlives: true,
			TLSHandshakeTimeout: 15 * time.Second, ResponseHeaderTimeout: time.Minute,
			DisableCompression: true, // the SHA-256 is of the file, not of how it travels
		},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) >= 5 {
				return errors.New("more than 5 redirects")
			}
			return checkURL(r.URL.String())
		},
	}
}

// checkAddress refuses this machine and its link: what listens there trusts
// whoever can reach it.
func (s *Store) checkAddress(address string) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("address %q: %w", address, err)
	}
	ip := at.Addr().Unmap().WithZone("")
	if slices.ContainsFunc(s.Allow, func(p netip.Prefix) bool { return p.Contains(ip) }) {
		return nil
	}
	if !ip.IsGlobalUnicast() || ip.IsLoopback() || ip.IsLinkLocalUnicast() || isOurs(ip) {
		return &fleet.Error{
			Kind: fleet.Denied, Op: "fetch from", On: ip.String(),
			Err:  errors.New("images are not fetched from this machine or its own link"),
			Hint: "import the file by its path, or allow the network in images.allow",
		}
	}
	return nil
}

// isOurs says whether an address is one of this machine's. When that cannot be
// found out it says yes.
func isOurs(ip netip.Addr) bool {
	ours, err := net.InterfaceAddrs()
	if err != nil {
		return true
	}
	return slices.ContainsFunc(ours, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		if !ok {
			return false
		}
		our, ok := netip.AddrFromSlice(n.IP)
		return ok && our.Unmap() == ip
	})
}
