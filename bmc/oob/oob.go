package oob

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

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

	mu     sync.Mutex
	seen   map[fleet.MAC]*guest
	visits sync.WaitGroup
}

// errNobody says that there is no BMC at an address: a switch, somebody's
// laptop, or a BMC that is still starting.
var errNobody = errors.New("no BMC answers there")

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
		MAC: l.MAC, UUID: m.UUID, Swapped: m.Swapped, Serial: m.Serial, Vendor: m.Vendor, Product: m.Product, Arch: m.Arch, MACs: m.MACs,
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
