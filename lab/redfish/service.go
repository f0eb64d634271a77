package redfish

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"
)

// Options describe one service. The zero value, with one system added, is
// usable.
type Options struct {
	Systems []System // Memory machines when they have none

	Username string // of the account that is there at first; "admin"
	Password string // "Secret123Secret1"
	Slots    bool   // accounts are a fixed number of slots, to be filled by PATCH, as iDRAC has them; else POST makes them
	Expired  bool   // the first account's password has to be changed before anything else
	Policy   Policy

	Vendor   string   // "Contoso"
	Product  string   // of the service: "BMC 3000"
	Firmware string   // version of the BMC's own firmware: "1.0"
	Manager  string   // id of the manager: "BMC"
	Parts    []string // more components with firmware
	Task     time.Duration
	// Fetch gets the image that a machine shall have in its drive, for
	// Machine.Insert; when nil, URLs are handed on as they are.
	Fetch  func(ctx context.Context, url string) (image string, err error)
	Faults Faults
	// Elsewhere returns the accounts that somebody has made or changed by another
	// protocol of the same BMC. They count here too from then on.
	Elsewhere func() []Account
	// FaultFile is where another program may write other Faults, as JSON.
	FaultFile string
	Log       *slog.Logger
}

// A System is one machine of a service.
type System struct {
	ID      string // "1" when empty; iDRAC says System.Embedded.1, others the serial number
	Machine Machine
	Facts   Facts
	Console Console
}

// A Console is what a system says about its serial console over SSH.
type Console struct {
	Port  int    // 0: it is off
	Entry string // the command that leads to it; "": it is there at once
}

// A Service is a BMC. It serves HTTP; [Listen] adds the TLS.
type Service struct {
	o       Options
	log     *slog.Logger
	mux     *http.ServeMux
	systems []*system
	done    chan struct{} // closed at the end
	work    sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	faults   Faults
	written  time.Time           // when the file was, that has the faults
	sessions map[string]*session // by id
	accounts []*account
	foreign  map[string]Account // by name, as Elsewhere had them last
	serial   int                // of sessions, accounts, tasks, log entries
	tasks    []*task
	firmware []*component
	stuck    bool // the log
	entries  []*entry
	protocol map[string]any // what PATCH of the network protocol has set
	leaf     *tls.Certificate
	ears     map[chan event]bool
	counts   Counts
	guest    string    // who asked last
	left     time.Time // when he did
}

// Counts are what a service has seen.
type Counts struct {
	Requests int // all
	Refused  int // without a valid login
	Logins   int // sessions made, or Basic auth accepted
	Resets   int // orders to change the power
	Updates  int // begun
}

// New makes a service. It needs a Close.
func New(o Options) *Service {
	o.Username = cmp.Or(o.Username, "admin")
	o.Password = cmp.Or(o.Password, "Secret123Secret1")
	o.Policy.Min = cmp.Or(o.Policy.Min, shortestPassword)
	o.Policy.Max = cmp.Or(o.Policy.Max, longestPassword)
	o.Vendor = cmp.Or(o.Vendor, "Contoso")
	o.Product = cmp.Or(o.Product, "BMC 3000")
	o.Firmware = cmp.Or(o.Firmware, "1.0")
	o.Manager = cmp.Or(o.Manager, "BMC")
	o.Task = cmp.Or(o.Task, 500*time.Millisecond)
	if len(o.Systems) == 0 {
		o.Systems = []System{{}}
	}
	s := &Service{
		o: o, log: o.Log, done: make(chan struct{}), faults: o.Faults,
		sessions: map[string]*session{}, protocol: map[string]any{}, ears: map[chan event]bool{}, foreign: map[string]Account{},
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	for i, sys := range o.Systems {
		s.systems = append(s.systems, newSystem(sys, i))
	}
	s.firmware = []*component{{id: "BMC", version: o.Firmware}, {id: "BIOS", version: s.systems[0].BIOS}}
	for _, id := range o.Parts {
		s.firmware = append(s.firmware, &component{id: id, version: "1.0"})
	}
	s.prepareAccounts()
	s.record("OK", "The BMC has started.")
	s.mux = http.NewServeMux()
	for pattern, x := range s.resources() {
		s.mux.Handle(pattern, s.door(x))
	}
	return s
}

// Close ends what the service does by itself.
func (s *Service) Close() {
	s.mu.Lock()
	if !s.closed {
		close(s.done)
	}
	s.closed = true
	s.mu.Unlock()
	s.work.Wait()
}

// later does something after a while, unless the service is closed before. At
// once when there is nothing to wait for.
func (s *Service) later(d time.Duration, f func(ctx context.Context)) {
	s.mu.Lock()
	closed := s.closed
	if !closed {
		s.work.Add(1)
	}
	s.mu.Unlock()
	if closed {
		return
	}
	go func() {
		defer s.work.Done()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
			f(ctx)
		case <-s.done:
		}
	}()
}

// SetFaults changes the faults.
func (s *Service) SetFaults(f Faults) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = f
}

// Faults returns the faults.
func (s *Service) Faults() Faults {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.o.FaultFile != "" {
		s.readFaults()
	}
	return s.faults
}

// readFaults looks whether another program has changed the faults: with the
// lock held.
func (s *Service) readFaults() {
	info, err := os.Stat(s.o.FaultFile)
	if err != nil || info.ModTime().Equal(s.written) {
		return
	}
	var f Faults
	b, err := os.ReadFile(s.o.FaultFile)
	if err != nil || json.Unmarshal(b, &f) != nil {
		return // half written: it is read again
	}
	s.faults, s.written = f, info.ModTime()
}

// Counts returns what the service has seen.
func (s *Service) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

func (s *Service) count(add func(*Counts)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	add(&s.counts)
}

// tooSoon reports whether somebody comes before the service has rested.
func (s *Service) tooSoon(guest string, rest time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	soon := guest != s.guest && time.Since(s.left) < rest
	s.guest, s.left = guest, time.Now()
	return soon
}

// ServeHTTP answers one request, or misbehaves.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f := s.Faults()
	s.count(func(c *Counts) { c.Requests++ })
	if f.Hangs {
		s.wait(r, 0)
		breakOff()
	}
	if f.Delay > 0 && !s.wait(r, f.Delay) {
		breakOff()
	}
	if s.tooSoon(r.RemoteAddr, f.Rest) {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	switch {
	case f.Redirect == "loop":
		http.Redirect(w, r, r.URL.RequestURI(), http.StatusTemporaryRedirect)
	case f.Redirect != "":
		http.Redirect(w, r, f.Redirect+r.URL.Path, http.StatusTemporaryRedirect)
	case f.Garbage != "":
		f.Garbage.write(w, r, s.done)
	default:
		w.Header().Set("OData-Version", "4.0")
		w.Header().Set("Cache-Control", "no-cache")
		s.mux.ServeHTTP(w, r)
	}
}

// breakOff ends a conversation without an answer, or in the middle of one. Who
// just returned would end it well: a client that says that it hangs up, and does
// so a moment later, would take that for all of the answer.
func breakOff() { panic(http.ErrAbortHandler) }

// wait waits, for ever when d is 0, and reports whether the client is still
// there.
func (s *Service) wait(r *http.Request, d time.Duration) bool {
	var after <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		after = t.C
	}
	select {
	case <-after:
		return true
	case <-r.Context().Done():
	case <-s.done:
	}
	return false
}

// door lets in those who may, and tells of errors.
func (s *Service) door(x resource) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f := s.Faults()
		err := s.admit(x, r, f)
		if err == nil {
			err = x.serve(w, r, f)
		}
		if err == nil {
			return
		}
		if e, ok := errors.AsType[*refusal](err); ok && e.status == http.StatusUnauthorized {
			s.count(func(c *Counts) { c.Refused++ })
			if !f.NoBasic {
				w.Header().Set("WWW-Authenticate", `Basic realm="`+s.o.Product+`"`)
			}
		}
		s.log.InfoContext(r.Context(), "request refused", "method", r.Method, "path", r.URL.Path, "err", err)
		complain(w, err)
	})
}

// resources is the whole service: what there is at which address.
func (s *Service) resources() map[string]resource {
	all := map[string]resource{
		"/":            {get: func(r *http.Request) (object, error) { return nil, notFound(r.URL.Path) }},
		"/redfish/{$}": {open: true, get: s.versions},
		"/redfish":     {open: true, get: s.versions},
	}
	add := func(more map[string]resource) {
		for path, x := range more {
			all[path] = x
			all[path+"/{$}"] = x // services take both
		}
	}
	for _, part := range []map[string]resource{
		{"/redfish/v1": {open: true, get: s.root}},
		s.sessionResources(), s.accountResources(), s.systemResources(),
		s.partResources(), s.biosResources(), s.chassisResources(), s.managerResources(), s.mediaResources(), s.logResources(),
		s.updateResources(), s.taskResources(), s.eventResources(), s.certificateResources(),
	} {
		add(part)
	}
	return all
}

func (s *Service) versions(*http.Request) (object, error) { return object{"v1": "/redfish/v1/"}, nil }

func (s *Service) root(*http.Request) (object, error) {
	f := s.Faults()
	o := item("/redfish/v1/", "ServiceRoot.v1_15_0.ServiceRoot", "RootService", "Root Service", object{
		"RedfishVersion": "1.18.0", "UUID": s.systems[0].Facts.UUID, "Vendor": s.o.Vendor, "Product": s.o.Product,
		"Systems": link("/redfish/v1/Systems"), "Chassis": link("/redfish/v1/Chassis"), "Managers": link("/redfish/v1/Managers"),
		"UpdateService": link("/redfish/v1/UpdateService"), "Tasks": link("/redfish/v1/TaskService"),
		"EventService": link("/redfish/v1/EventService"), "CertificateService": link("/redfish/v1/CertificateService"),
		"Registries":                link("/redfish/v1/Registries"),
		"ProtocolFeaturesSupported": object{"FilterQuery": false, "SelectQuery": false, "ExcerptQuery": false, "OnlyMemberQuery": false},
		"Links":                     object{},
	})
	if !f.BasicOnly {
		o["SessionService"] = link("/redfish/v1/SessionService")
		o["Links"] = object{"Sessions": link("/redfish/v1/SessionService/Sessions")}
	}
	if !f.NoAccounts {
		o["AccountService"] = link("/redfish/v1/AccountService")
	}
	return o, nil
}

// system finds the system that a request is about.
func (s *Service) system(r *http.Request) (*system, error) {
	i := slices.IndexFunc(s.systems, func(sys *system) bool { return sys.ID == r.PathValue("system") })
	if i < 0 {
		return nil, notFound(r.URL.Path)
	}
	return s.systems[i], nil
}
