package http

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/rackstage/provision/fleet"
)

// gate lets a request through to its route when the table of audiences says
// that its caller may use it. It runs before everything that reads a body.
func (s *Server) gate(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		req := c.Request()
		need, ok := s.audiences[req.Method+" "+c.Path()]
		if !ok {
			return s.notThere(c)
		}
		if err := checkOrigin(req); err != nil {
			return err
		}
		who, err := s.identify(req, need)
		if err != nil {
			return s.turnAway(c, err)
		}
		if who.cookie && !hasOrigin(req) {
			return newProblem(http.StatusForbidden, "E-ORIGIN", "the request does not say which page it comes from", "use a browser of the last years, or a token instead of the cookie")
		}
		who.addr, who.local = remoteAddr(req), localAddr(req)
		c.SetRequest(req.WithContext(context.WithValue(req.Context(), keyCaller, who)))
		return next(c)
	}
}

// identify finds out who makes a request, and returns an error when that is
// nobody of its audience.
func (s *Server) identify(req *http.Request, need audience) (caller, error) {
	ctx := req.Context()
	switch need {
	case everybody:
		return caller{}, nil
	case machines, agents, relays:
		if doorOf(ctx) != doorTLS || req.TLS == nil {
			return caller{}, newProblem(http.StatusForbidden, "E-DOOR", "agents and relays are served by the TLS listener only", "")
		}
		switch need {
		case machines:
			return caller{}, nil
		case relays:
			return s.identifyRelay(req)
		default:
			return s.identifyAgent(req)
		}
	case viewers, operators, admins:
	}
	who, err := s.identifyPerson(req)
	if err != nil {
		return caller{}, err
	}
	if !covers(who.identity, need) {
		return caller{}, newProblem(http.StatusForbidden, "E-ROLE",
			"role "+string(who.identity.Role)+" may not do this", "it needs role "+string(need))
	}
	return who, nil
}

func (s *Server) identifyAgent(req *http.Request) (caller, error) {
	if len(req.TLS.PeerCertificates) == 0 {
		return caller{}, newProblem(http.StatusUnauthorized, "E-CERTIFICATE", "no client certificate", "say hello first")
	}
	node, stage, err := s.o.Authority.Identify(req.TLS.PeerCertificates)
	if err != nil {
		p := newProblem(http.StatusUnauthorized, "E-CERTIFICATE", "the client certificate is not one of ours, or no longer valid", "boot the machine from the network, or say hello again")
		p.cause = err
		return caller{}, p
	}
	if stage == "" {
		err = s.checkBootKey(node, req.TLS.PeerCertificates[0])
	}
	return caller{node: node, stage: stage}, err
}

// checkBootKey refuses the boot certificate of an earlier boot: who got it is
// not what runs on the machine now.
func (s *Server) checkBootKey(id fleet.NodeID, cert *x509.Certificate) error {
	node, err := s.o.Engine.Node(string(id))
	if err != nil {
		return err
	}
	if key := sha256.Sum256(cert.RawSubjectPublicKeyInfo); node.BootKey != "" && node.BootKey != hex.EncodeToString(key[:]) {
		return newProblem(http.StatusUnauthorized, "E-CERTIFICATE", "another boot of this node said hello since", "say hello again")
	}
	return nil
}

func (s *Server) identifyPerson(req *http.Request) (caller, error) {
	ctx := req.Context()
	if doorOf(ctx) == doorLocal {
		identity, err := localUser(ctx)
		return caller{identity: identity}, err
	}
	token, fromCookie := tokenOf(req)
	if token == "" {
		return caller{}, unauthenticated("not signed in")
	}
	identity, err := s.o.Accounts.Identify(ctx, token)
	if err != nil {
		p := unauthenticated("the session is over, or was never ours")
		p.cause = err
		return caller{}, p
	}
	return caller{identity: identity, cookie: fromCookie}, nil
}

func unauthenticated(detail string) *problem {
	return newProblem(http.StatusUnauthorized, "E-SIGN-IN", detail, "sign in")
}

// turnAway sends a browser that wants a page to the login page, everybody
// else gets the error.
func (s *Server) turnAway(c echo.Context, err error) error {
	req := c.Request()
	if problemOf(err).Status != http.StatusUnauthorized || !wantsPage(req) {
		return err
	}
	target := "/login"
	if req.Method == http.MethodGet && req.URL.RequestURI() != "/" {
		target += "?next=" + url.QueryEscape(req.URL.RequestURI())
	}
	return c.Redirect(http.StatusSeeOther, target)
}

// wantsPage reports whether the caller is a browser that shows what comes.
func wantsPage(req *http.Request) bool {
	return strings.Contains(req.Header.Get("Accept"), "text/html") && !strings.HasPrefix(req.URL.Path, "/api/")
}

func (s *Server) notThere(c echo.Context) error {
	for route := range s.audiences {
		if _, path, _ := strings.Cut(route, " "); path == c.Path() {
			return newProblem(http.StatusMethodNotAllowed, "", "this path does not take "+c.Request().Method, "")
		}
	}
	return newProblem(http.StatusNotFound, "E-PATH", "there is nothing at this path", "see /api/v1/openapi.json")
}

// checkOrigin refuses what a page of another site makes a browser send, and
// on the plain listener also names that another site points at us.
func checkOrigin(req *http.Request) error {
	var sameSite http.CrossOriginProtection
	if err := sameSite.Check(req); err != nil {
		return newProblem(http.StatusForbidden, "E-ORIGIN", "the request comes from a page of another site", "")
	}
	if doorOf(req.Context()) == doorPlain && !isLoopbackName(req.Host) {
		return newProblem(http.StatusMisdirectedRequest, "E-HOST", "this listener answers to localhost only", "use https for other names")
	}
	return nil
}

func isLoopbackName(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || (err == nil && addr.IsLoopback())
}

func hasOrigin(req *http.Request) bool {
	switch req.Method {
	case http.MethodGet, http.MethodHead:
		return true
	}
	return req.Header.Get("Sec-Fetch-Site") != "" || req.Header.Get("Origin") != ""
}

// tokenOf returns the session token of a request, and whether it is in a
// cookie, which browsers send on their own accord.
func tokenOf(req *http.Request) (token string, fromCookie bool) {
	if scheme, token, ok := strings.Cut(req.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		return token, false
	}
	if cookie, err := req.Cookie(cookieName(req)); err == nil {
		return cookie.Value, true
	}
	return "", false
}

// cookieName is one that browsers accept from the very host and over TLS
// only, where there is TLS.
func cookieName(req *http.Request) string {
	if req.TLS != nil {
		return "__Host-provision"
	}
	return "provision"
}
