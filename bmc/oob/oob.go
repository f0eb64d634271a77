package oob

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/fleet"
)

// Leases tells who has which address.
type Leases interface {
	Leases(subnet string, after netip.Addr, limit int) []fleet.Lease
}

// Engine knows the nodes, and takes what is found.
type Engine interface {
	Site() fleet.Site
	NodeByBMC(mac fleet.MAC) (fleet.Node, bool)
	MoveBMC(ctx context.Context, id fleet.NodeID, addr string) error
	AdoptBMC(ctx context.Context, f fleet.FoundBMC) (fleet.Node, error)
	TakeOverBMC(ctx context.Context, id fleet.NodeID) (fleet.Node, error)
	BeginBMC(ctx context.Context, mac fleet.MAC, user string, shape int) (sealed string, err error)
	Raise(code, on, detail string)
	Clear(code, on string)
}

// BMCs speaks to them.
type BMCs interface {
	Greet(ctx context.Context, t bmc.Target) (bmc.Sight, error)
	Probe(ctx context.Context, t bmc.Target) (bmc.Found, error)
	Identify(ctx context.Context, t bmc.Target) (bmc.Machine, error)
	ChangePassword(ctx context.Context, t bmc.Target, next bmc.Password) error
}

// A Watcher looks at BMCs that get addresses. All fields but the last three
// must be set.
type Watcher struct {
	Leases Leases
	Engine Engine
	BMCs   BMCs
	Open   func(sealed string) (bmc.Password, error) // a password of the site
	Log    *slog.Logger
	Every  time.Duration     // 15 s when zero
	Ports  fleet.BMCPorts    // of BMCs, where they are not the usual ones
	Trust  func() *bmc.Trust // whose signature on their certificates is enough, for when they renew them

	mu   sync.Mutex
	seen map[fleet.MAC]*guest
}

// A guest is a BMC, or whoever else has an address there.
type guest struct {
	addr   netip.Addr
	next   time.Time       // not before
	wait   time.Duration   // the last pause
	tried  map[string]bool // accounts, sealed: each once
	logins int
	alarm  string // what it is called in an alarm; "" for none
	detail string
}

const (
	mostGuests  = 4096
	mostAtOnce  = 8
	mostLogins  = 3 // of all accounts together: BMCs lock out who tries more
	firstPause  = time.Minute
	longestWait = 30 * time.Minute
	visitWithin = 5 * time.Minute
)

// Run looks until ctx is done.
func (w *Watcher) Run(ctx context.Context) error {
	every := w.Every
	if every <= 0 {
		every = 15 * time.Second
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		w.round(ctx, time.Now())
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// round visits everybody who is due, some at the same time, and repeats the
// alarms of those who are not.
func (w *Watcher) round(ctx context.Context, now time.Time) {
	var group errgroup.Group
	group.SetLimit(mostAtOnce)
	present := map[fleet.MAC]bool{}
	for _, subnet := range w.Engine.Site().Subnets {
		if !subnet.OOB {
			continue
		}
		for _, l := range w.Leases.Leases(subnet.Name, netip.Addr{}, mostGuests) {
			if l.State != fleet.LeaseBound || !l.Expires.After(now) || len(present) >= mostGuests {
				continue
			}
			present[l.MAC] = true
			if g := w.due(l, now); g != nil {
				group.Go(func() error {
					w.visit(ctx, l, g)
					return nil
				})
			}
		}
	}
	_ = group.Wait() // none returns an error
	w.forget(present)
}

// due returns the guest behind a lease when it is to be visited now. Who has
// moved is looked at at once.
func (w *Watcher) due(l fleet.Lease, now time.Time) *guest {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen == nil {
		w.seen = map[fleet.MAC]*guest{}
	}
	g := w.seen[l.MAC]
	if g == nil {
		g = &guest{tried: map[string]bool{}}
		w.seen[l.MAC] = g
	}
	if g.addr != l.Addr {
		g.addr, g.next, g.wait = l.Addr, time.Time{}, 0
	}
	if now.Before(g.next) {
		if g.alarm != "" {
			w.Engine.Raise(fleet.CodeBMCStranger, g.alarm, g.detail)
		}
		return nil
	}
	g.wait = min(max(2*g.wait, firstPause), longestWait)
	g.next = now.Add(g.wait)
	return g
}

// forget drops those whose leases are over.
func (w *Watcher) forget(present map[fleet.MAC]bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.DeleteFunc(w.seen, func(mac fleet.MAC, g *guest) bool {
		gone := !present[mac]
		if gone && g.alarm != "" {
			w.Engine.Clear(fleet.CodeBMCStranger, g.alarm)
		}
		return gone
	})
}

// errNobody says that there is no BMC at an address: a switch, somebody's
// laptop, or a BMC that is still starting.
var errNobody = errors.New("no BMC answers there")

func (w *Watcher) visit(ctx context.Context, l fleet.Lease, g *guest) {
	ctx, cancel := context.WithTimeout(ctx, visitWithin)
	defer cancel()
	err := w.meet(ctx, l, g)
	if ctx.Err() != nil {
		return
	}
	on := fmt.Sprintf("BMC %s at %s", l.MAC, l.Addr)
	w.mu.Lock()
	defer w.mu.Unlock()
	if g.alarm != "" && (g.alarm != on || err == nil || errors.Is(err, errNobody)) {
		w.Engine.Clear(fleet.CodeBMCStranger, g.alarm)
		g.alarm = ""
	}
	switch {
	case err == nil:
		g.wait = longestWait / 2 // all is well: seldom
	case errors.Is(err, errNobody):
		w.Log.DebugContext(ctx, "no BMC at an address for BMCs", "mac", l.MAC, "addr", l.Addr)
	default:
		w.Log.WarnContext(ctx, "BMC not taken in", "mac", l.MAC, "addr", l.Addr, "err", err)
		g.alarm, g.detail = on, err.Error()
		w.Engine.Raise(fleet.CodeBMCStranger, on, g.detail)
	}
}

// meet does what is to be done about one BMC.
func (w *Watcher) meet(ctx context.Context, l fleet.Lease, g *guest) error {
	addr := l.Addr.String()
	if n, known := w.Engine.NodeByBMC(l.MAC); known && n.BMC.SealedPassword != "" {
		switch {
		case n.BMC.Address != addr && n.Inventory.BMC.Address != addr:
			return w.Engine.MoveBMC(ctx, n.ID, addr)
		case n.BMC.Factory != "" || hasFinding(n, fleet.CodeBMCFactory) && !n.BMC.Own: // what it came with was not changed yet
			_, err := w.Engine.TakeOverBMC(ctx, n.ID)
			return err
		}
		return nil
	}
	t := bmc.Target{Node: string(l.MAC), Address: addr, Ports: w.Ports}
	if w.Trust != nil {
		t.Trust = w.Trust()
	}
	seen, err := w.BMCs.Greet(ctx, t)
	if err != nil {
		return errNobody
	}
	t, account, err := w.signIn(ctx, t, l, seen, g)
	if err != nil {
		return err
	}
	m, err := w.BMCs.Identify(ctx, t)
	if err != nil {
		return err
	}
	_, err = w.Engine.AdoptBMC(ctx, fleet.FoundBMC{
		BMC: fleet.BMC{
			Driver: t.Driver, Address: addr, Ports: t.Ports, Username: account.Username, SealedPassword: account.SealedPassword,
			CipherSuite: t.CipherSuite, System: t.System, BasicAuth: t.BasicAuth, Pin: t.Pin,
		},
		MAC: l.MAC, UUID: m.UUID, Swapped: m.Swapped, Serial: m.Serial, Vendor: m.Vendor, Product: m.Product, MACs: m.MACs,
	})
	return err
}

func hasFinding(n fleet.Node, code string) bool {
	for _, f := range n.BMC.Findings {
		if f.Code == code {
			return true
		}
	}
	return false
}

// signIn tries the accounts that fit, each once in all.
func (w *Watcher) signIn(ctx context.Context, t bmc.Target, l fleet.Lease, seen bmc.Sight, g *guest) (bmc.Target, fleet.FactoryAccount, error) {
	last := errors.New("no account of bmc_accounts fits it")
	if len(g.tried) > 0 {
		last = errors.New("it takes none of bmc_accounts")
	}
	site := w.Engine.Site()
	for _, a := range slices.Concat(site.Begun, site.Factory) {
		key := a.SealedPassword + a.Username
		if g.tried[key] || g.logins >= mostLogins || !a.Fits(seen.Vendor, l.MAC, l.Hostname) {
			continue
		}
		password, err := w.Open(a.SealedPassword)
		if err != nil {
			return t, a, err
		}
		g.tried[key] = true
		g.logins++
		t.Username, t.Password, t.Driver = a.Username, password, seen.Driver
		in, now, err := w.try(ctx, t, l.MAC, a)
		if err == nil {
			clear(g.tried) // it knows us: were it to forget, it would start over
			g.logins = 0
			return in, now, nil
		}
		last = err
		if begun := now.SealedPassword + now.Username; begun != key {
			delete(g.tried, begun) // it may have that one now, whatever it said of it before
		}
		if !errors.Is(err, bmc.ErrLogin) {
			delete(g.tried, key) // nobody has said no
			g.logins--
			break
		}
	}
	return t, fleet.FactoryAccount{}, last
}

// try signs in with an account. A BMC that does nothing before the password is
// changed gets another one: it does not even say which machine it is in before.
// The account is returned as it is then, or may be when there is an error too.
func (w *Watcher) try(ctx context.Context, t bmc.Target, mac fleet.MAC, a fleet.FactoryAccount) (bmc.Target, fleet.FactoryAccount, error) {
	found, err := w.BMCs.Probe(ctx, t)
	if !errors.Is(err, bmc.ErrMustChange) {
		return found.Use(t), a, err
	}
	owing := found.Use(t)
	for shape := 0; ; shape++ {
		sealed, beginErr := w.Engine.BeginBMC(ctx, mac, a.Username, shape)
		if beginErr != nil || sealed == "" {
			return t, a, errors.Join(beginErr, err)
		}
		a.SealedPassword = sealed
		password, openErr := w.Open(sealed)
		if openErr != nil {
			return t, a, openErr
		}
		if err = w.BMCs.ChangePassword(ctx, owing, password); errors.Is(err, bmc.ErrShape) {
			continue
		}
		if err != nil {
			return t, a, err
		}
		t.Password = password
		if found, err = w.BMCs.Probe(ctx, t); err != nil {
			return t, a, fmt.Errorf("its password was changed, as it wants it: %w", err)
		}
		return found.Use(t), a, nil
	}
}
