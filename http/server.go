package http

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/console"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/internal/throttle"
	ipxescripts "github.com/rackstage/provision/ipxe-scripts"
	"github.com/rackstage/provision/web"
)

// Options are what a server needs. Those without a remark must be set.
type Options struct {
	Log     *slog.Logger
	Now     func() time.Time // nil: time.Now
	Version api.Version

	Engine    Engine
	Accounts  Accounts
	Authority Authority
	Images    Images
	Leases    Leases   // nil: nobody knows who holds which address
	Held      Held     // nil: as Leases
	Relays    Relays   // nil: there are none
	Secrets   Secrets  // nil: there are none
	Segments  Segments // nil: nobody wants to know
	OnePort   bool     // relays serve TFTP from one port, as we do
	DUID      []byte   // of our DHCPv6 server, in whose name relays answer while we are away
	TFTP      OpenFile // what the TFTP server opens, for machines behind relays; may be nil
	ParseSite func(yaml []byte) (fleet.Site, error)
	Network   Network                                     // nil: no DHCP
	Quirk     func(n fleet.Node) fleet.Quirk              // how a node boots otherwise than usual; may be nil
	Doctor    func(ctx context.Context) []api.Check       // may be nil
	Profile   func(n fleet.Node, c fleet.BMCCheck) string // YAML of what has to be known about a node's BMC; may be nil
	Arming    Arming                                      // asked before subnets change; may be nil
	Counters  func() map[string]int64                     // what was counted since the start; may be nil
	Consoles  *console.Hub                                // serial consoles, with an archive; nil: there are none

	BootDir    string                   // kernel, ramdisk, loaders
	Absent     func(file string) string // what is the matter with one that is not there; "" where no machine is told to load it; may be nil
	PrivateDir string                   // files that custom scripts give out by one-use URLs; "": none

	Seed      func(n fleet.Node, p fleet.Profile) ([]fleet.SeedFile, error) // files of a new system, to show them; may be nil
	ServerFor func(machine netip.Addr) (netip.Addr, error)                  // our address as a machine sees it, to show scripts; may be nil
	ByHTTPS   func(machine netip.Addr) bool                                 // whether firmware there boots by the listener BootHTTPS; may be nil

	BootPort  uint16      // of the boot listener; 0: 80
	BootHTTPS uint16      // of the boot listener with TLS; 0: there is none
	AgentPort uint16      // of the TLS listener; 0: 8443
	TLS       *tls.Config // of the TLS listener; asks clients for certificates and takes them without

	DemoLogin bool // tell people on the login page about demo/demo
}

// OpenFile opens a file by the name that a machine asked the TFTP server for.
type OpenFile func(ctx context.Context, name string, client netip.AddrPort) (io.ReadCloser, int64, error)

// A Server answers all HTTP requests. Make one with [New].
type Server struct {
	o           Options
	bootDir     *os.Root
	pages       *web.Pages
	scripts     *ipxescripts.Scripts
	grubScripts *ipxescripts.GRUB
	audiences   map[string]audience
	hellos      *quota
	tickets     *quota // of boot scripts
	racks       *racks // who fetches which image now
	bigBodies   chan struct{}
	streams     chan struct{}
	serials     chan struct{} // consoles that people have open
	manifest    manifest
	snapshots   snapshots     // for relays
	tunnels     *tunnels      // connections that relays bring
	closing     chan struct{} // closed when the server stops: streams end
	links       *links        // one-use URLs
	discsSeen   *discsSeen    // CD images that BMCs read
	customs     *customs      // scripts of site.yaml, read once
	spare       sync.Pool     // of buffers for scripts
	counts      counters      // of the boot listener
	fronts      sync.Map      // of *front by address
	dates       dates         // for answers of the boot listener
	bootDoor    *throttle.Doorkeeper
	echo        *echo.Echo
	caDigest    string
}

const (
	maxStreams = 256
	maxPeers   = 1 << 16 // addresses that rates are kept for
)

// New returns a server. It opens the boot directory and listens to nothing
// yet.
func New(o Options) (*Server, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Network == nil {
		o.Network = noNetwork{}
	}
	if o.AgentPort == 0 {
		o.AgentPort = 8443
	}
	dir, err := os.OpenRoot(o.BootDir)
	if err != nil {
		return nil, fmt.Errorf("open boot directory: %w", err)
	}
	pages, err := web.Load()
	if err != nil {
		return nil, err
	}
	scripts, err := ipxescripts.Load()
	if err != nil {
		return nil, err
	}
	grub, err := ipxescripts.LoadGRUB()
	if err != nil {
		return nil, err
	}
	digest, err := caDigest(o.Authority.CAPEM())
	if err != nil {
		return nil, err
	}
	s := &Server{
		o: o, bootDir: dir, pages: pages, scripts: scripts, grubScripts: grub, audiences: audiences(), caDigest: digest,
		hellos:    newQuota(o.Now),
		tickets:   newQuota(o.Now),
		racks:     newRacks(o.Now),
		bigBodies: make(chan struct{}, maxBigBodies),
		streams:   make(chan struct{}, maxStreams),
		serials:   make(chan struct{}, maxConsoles),
		tunnels:   newTunnels(),
		closing:   make(chan struct{}),
		customs:   newCustoms(),
		discsSeen: newDiscsSeen(),
		bootDoor:  throttle.NewDoorkeeper(bootsPerAddr, connsInAll),
	}
	s.bootDoor.Subnets(s.isDeclared)
	s.spare.New = func() any { return new(scriptBuffer) }
	if s.links, err = openLinks(o.PrivateDir, o.Now); err != nil {
		return nil, err
	}
	s.echo = s.routes()
	return s, nil
}

// routes puts every path of the TLS listener and the socket in its place.
func (s *Server) routes() *echo.Echo {
	e := echo.New()
	e.IPExtractor = echo.ExtractIPDirect() // first of all: nobody's X-Forwarded-For is believed
	e.HideBanner, e.HidePort = true, true
	e.HTTPErrorHandler = func(err error, c echo.Context) { _ = s.fail(c, err) }
	e.Use(s.logged, s.recovered, headers, s.gate, s.intake)
	s.agentRoutes(e)
	s.relayRoutes(e)
	s.operatorRoutes(e)
	s.consoleRoutes(e)
	return e
}

// headers sets what every answer carries.
func headers(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		h := c.Response().Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "+
			"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "same-origin") // no-referrer would make the Origin of forms null
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		return next(c)
	}
}

// logged writes down who changed what, and what went wrong on our side.
func (s *Server) logged(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		begin := s.o.Now()
		err := next(c)
		if err != nil {
			err = s.fail(c, err)
		}
		req, level := c.Request(), slog.LevelDebug
		if req.Method != http.MethodGet && strings.HasPrefix(c.Path(), api.Root) {
			level = slog.LevelInfo
		}
		s.o.Log.Log(req.Context(), level, "request served", "method", req.Method, "path", c.Path(), "status", c.Response().Status,
			"user", actorOf(req.Context()), "addr", req.RemoteAddr, "took", s.o.Now().Sub(begin))
		return err
	}
}

func (s *Server) recovered(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) (err error) {
		defer func() {
			if r := recover(); r != nil {
				err = s.panicked(c.Request(), r)
			}
		}()
		return next(c)
	}
}

// survive keeps the boot listener alive when a handler panics.
func (s *Server) survive(w http.ResponseWriter, req *http.Request) {
	if r := recover(); r != nil {
		s.counts.panics.Add(1)
		_ = s.panicked(req, r)
		http.Error(w, "internal error", http.StatusInternalServerError)
	}
}

func (s *Server) panicked(req *http.Request, r any) error {
	if r == http.ErrAbortHandler { //nolint:errorlint // net/http wants the very value
		panic(r)
	}
	return s.panickedAt(req.Context(), req.Method+" "+req.URL.Path, r)
}

func (s *Server) panickedAt(ctx context.Context, what string, r any) error {
	s.o.Log.ErrorContext(ctx, "request handler panicked", "request", what, "err", r, "stack", string(debug.Stack()))
	return errors.New("handler panicked")
}

// report logs what was our own fault, and returns what the caller gets to see.
func (s *Server) report(ctx context.Context, err error) *problem {
	p := problemOf(err)
	if p.Status == http.StatusInternalServerError && p.cause != nil {
		s.o.Log.ErrorContext(ctx, "request failed", "user", actorOf(ctx), "err", p.cause)
	}
	return p
}

// fail answers with an error: a page to browsers, a problem to programs.
func (s *Server) fail(c echo.Context, err error) error {
	if c.Response().Committed {
		return nil
	}
	if he, ok := errors.AsType[*echo.HTTPError](err); ok {
		err = newProblem(he.Code, "", "", "")
	}
	p := s.report(c.Request().Context(), err)
	if wantsPage(c.Request()) {
		return s.failPage(c, p)
	}
	writeProblem(c.Response(), p)
	return nil
}
