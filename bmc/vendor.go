package bmc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bmc-toolbox/bmclib/v2"
	"github.com/bmc-toolbox/bmclib/v2/constants"
	bmclibErrs "github.com/bmc-toolbox/bmclib/v2/errors"
	"github.com/go-logr/logr"
	"github.com/jacobweinstock/registrar"

	"github.com/rackstage/provision/fleet"
)

// vendors are the drivers of bmclib that a node can be set to, by their names
// there. None of them is tried by a probe. Its driver for Supermicro is not among
// them: it has an HTTP client of its own, which sends the password to whatever
// certificate is shown, and then switches by Redfish as we do.
var vendors = map[fleet.BMCDriver]string{
	fleet.DriverDell: "dell", fleet.DriverOpenBMC: "openbmc", fleet.DriverASRockRack: "asrockrack", fleet.DriverAMT: "IntelAMT",
}

// DebugEnv is the environment variable that has bmclib write all that is said to
// BMCs to the standard output, passwords too.
const DebugEnv = constants.EnvEnableDebug

// amtPort is where AMT is spoken to, in clear. Its driver makes an HTTP client
// by itself and takes none: what [wire] does for the others, a pin and a bound
// for answers, it cannot have. docs/bmc.md says so.
const amtPort = 16992

// A vendorLine is power by one of bmclib's drivers. They have no boot device,
// but for AMT: that goes through the standard which the BMC speaks beside.
type vendorLine struct {
	c      *Controller
	target Target
	facade *bmclib.Client
	wire   *wire
	called time.Time // a driver forgets that it was its own deadline that it failed at
	beside line      // for the boot device; nil before it is needed
}

// A wire is the network below bmclib, with what was last wrong with it: its
// drivers fold that into text.
type wire struct {
	guardian
	due time.Time // it has answered twice by then

	mu      sync.Mutex
	last    error
	dials   int // a connection is for one answer
	dialled time.Time
	longest time.Duration // of them
}

// next counts the answers, and returns by when the next one has to be there; zero:
// in the time of a request.
func (w *wire) next() time.Time {
	const enough = 2
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dials > 0 {
		w.longest = max(w.longest, time.Since(w.dialled))
	}
	w.dials, w.dialled = w.dials+1, time.Now()
	if w.dials > enough {
		return time.Time{}
	}
	return w.due
}

// late names a BMC that has not answered in time.
func (w *wire) late() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.longest > slow {
		return fmt.Errorf("%w: %d answers, one after %s", ErrSlow, w.dials-1, w.longest.Round(100*time.Millisecond))
	}
	return ErrHangs
}

func (w *wire) keep(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = err
	return err
}

// client is what bmclib's drivers speak HTTP with. It has to be a
// [http.Transport] for them, so what bounds an answer is below it.
func (w *wire) client(dial Dial, at string, timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout: timeout, Transport: w.transport(dial, at),
		CheckRedirect: func(req *http.Request, via []*http.Request) error { return w.keep(redirected(req, via)) },
	}
}

// transport reaches nothing but the BMC, whatever port a driver has in mind. A
// connection is for one answer.
func (w *wire) transport(dial Dial, at string) *http.Transport {
	conf := w.config()
	conf.VerifyConnection = func(state tls.ConnectionState) error { return w.keep(w.verify(state)) }
	return &http.Transport{
		TLSClientConfig: conf, TLSHandshakeTimeout: connectIn, DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			inner, cancel := context.WithTimeout(ctx, connectIn)
			defer cancel()
			conn, err := dial(inner, network, at)
			if err != nil && inner.Err() != nil {
				err = ErrNoAnswer
			}
			if err != nil {
				return nil, w.keep(err)
			}
			_ = conn.SetDeadline(w.next()) // one that is not obeyed is late
			return &boundedConn{Conn: conn, wire: w, left: largest + largest/8}, w.keep(nil)
		},
	}
}

// A boundedConn ends with an error where an answer, and what TLS and HTTP need
// to carry it, gets too long.
type boundedConn struct {
	net.Conn
	wire *wire
	left int64
}

// Read implements io.Reader.
func (b *boundedConn) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, b.wire.keep(errTooLong)
	}
	n, err := b.Conn.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if errors.Is(err, os.ErrDeadlineExceeded) && time.Now().After(b.wire.due) {
		err = b.wire.keep(b.wire.late())
	}
	return n, err
}

// openVendor opens bmclib with one of its drivers. It makes all of them, which
// costs nothing before they are opened; what is not ours is taken out.
func (c *Controller) openVendor(ctx context.Context, t Target) (*vendorLine, error) {
	if t.Driver.Web() && t.Pin == "" {
		return nil, ErrNotProbed
	}
	own, usual := t.Ports.HTTPS, httpsPort
	if t.Driver == fleet.DriverAMT { // whose driver has a network of its own, in clear
		own, usual = 0, amtPort
	}
	host, port, err := t.at(own, usual)
	if err != nil {
		return nil, err
	}
	w := &wire{guardian: guardianOf(t), due: time.Now().Add(c.timeout(t))}
	client := w.client(c.o.Dial, net.JoinHostPort(host, strconv.Itoa(port)), c.timeout(t))
	facade := bmclib.NewClient(host, t.Username, string(t.Password), bmclib.WithLogger(logr.Discard()), bmclib.WithHTTPClient(client),
		bmclib.WithPerProviderTimeout(c.timeout(t)), bmclib.WithAsrockrackPort(strconv.Itoa(port)), bmclib.WithDellRedfishUseBasicAuth(t.BasicAuth),
		bmclib.WithIntelAMTPort(uint32(port))) //nolint:gosec // a port
	facade.Registry.Drivers = slices.DeleteFunc(facade.Registry.Drivers, func(d *registrar.Driver) bool { return d.Name != vendors[t.Driver] })
	l := &vendorLine{c: c, target: t, facade: facade, wire: w, called: time.Now()}
	if err := facade.Open(ctx); err != nil {
		return nil, l.failure(err)
	}
	admitted(ctx)
	return l, nil
}

// failure names what a driver of bmclib says, which is text mostly, and understood
// as it is.
func (l *vendorLine) failure(err error) error {
	l.wire.mu.Lock()
	below := l.wire.last
	l.wire.mu.Unlock()
	raw := err.Error()
	full := strings.Contains(raw, "SessionLimitExceeded") || strings.Contains(raw, "RAC0218")
	shown, text := l.target.quote(raw), fleet.CleanText(raw)
	switch {
	case below != nil:
		return below
	case full:
		return fmt.Errorf("%w (%s)", ErrSessions, shown)
	case l.target.Driver == fleet.DriverAMT && strings.Contains(text, "401"):
		return ErrLogin // it may repeat the digest, from which passwords can be guessed
	case strings.Contains(text, "401") || strings.Contains(text, "nauthorized") || strings.Contains(text, bmclibErrs.ErrLoginFailed.Error()):
		return fmt.Errorf("%w (%s)", ErrLogin, shown)
	case strings.Contains(text, "is not supported by this service"):
		return fmt.Errorf("%w (%s)", ErrUnsupported, shown)
	case strings.Contains(text, "not compatible") || errors.Is(err, bmclibErrs.ErrIncompatibleProvider):
		return fmt.Errorf("%w: its driver does not know this BMC (%s)", ErrUnsupported, shown)
	case errors.Is(err, context.DeadlineExceeded) || strings.Contains(text, "Client.Timeout") || strings.Contains(text, "handshake timeout") || time.Since(l.called) >= l.c.timeout(l.target):
		return fmt.Errorf("%w (%s)", ErrHangs, shown)
	}
	return fmt.Errorf("%w (%s)", ErrRejected, shown)
}

func (l *vendorLine) power(ctx context.Context) (fleet.PowerState, error) {
	l.called = time.Now()
	said, err := l.facade.GetPowerState(ctx)
	if err != nil {
		return fleet.PowerIsUnknown, l.failure(err)
	}
	return powerState(said), nil
}

// order gives orders whose meaning the drivers agree upon. Their reset is off
// and on, and takes nine seconds where ours sees what happens. Those that speak
// Redfish send an interrupt.
func (l *vendorLine) order(ctx context.Context, a action) error {
	var err error
	l.called = time.Now()
	interrupts := l.target.Driver == fleet.DriverDell || l.target.Driver == fleet.DriverOpenBMC
	switch {
	case a == turnOn, a == turnOff, a == softOff:
		_, err = l.facade.SetPowerState(ctx, string(a))
	case a == diagnose && interrupts:
		err = l.facade.SendNMI(ctx)
	default:
		return fmt.Errorf("%w: power %s by driver %s", ErrUnsupported, a, l.target.Driver)
	}
	if err != nil {
		return l.failure(err)
	}
	return nil
}

// standard opens what the BMC speaks beside its vendor's own: Redfish or IPMI.
func (l *vendorLine) standard(ctx context.Context) (line, error) {
	if l.beside != nil {
		return l.beside, nil
	}
	var err error
	if l.target.Driver == fleet.DriverASRockRack {
		l.beside, err = l.c.openLibrary(ctx, l.target)
	} else {
		l.beside, err = l.c.openSystem(ctx, l.target)
	}
	if err != nil {
		l.beside = nil
	}
	return l.beside, err
}

func (l *vendorLine) setBoot(ctx context.Context, b Boot) error {
	if l.target.Driver == fleet.DriverAMT {
		if b.Device != PXE || !b.Once {
			return fmt.Errorf("%w: AMT boots from the network, once, and nothing else", ErrUnsupported)
		}
		l.called = time.Now()
		if _, err := l.facade.SetBootDevice(ctx, string(PXE), false, b.Mode != BIOS); err != nil {
			return l.failure(err)
		}
		return nil
	}
	beside, err := l.standard(ctx)
	if err != nil {
		return err
	}
	return beside.setBoot(ctx, b)
}

// boots believes AMT, whose boot device cannot be read back.
func (l *vendorLine) boots(ctx context.Context, b Boot) (bool, error) {
	if l.target.Driver == fleet.DriverAMT {
		return true, nil
	}
	beside, err := l.standard(ctx)
	if err != nil {
		return false, err
	}
	return beside.boots(ctx, b)
}

func (l *vendorLine) hangUp(ctx context.Context) {
	if l.beside != nil {
		l.beside.hangUp(ctx)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dieIn)
	defer cancel()
	_ = l.facade.Close(ctx) // a session that is lost ends by itself
}

// probeVendor finds out what a driver of bmclib needs to know, by what the BMC
// speaks beside, and has the driver sign in.
func (c *Controller) probeVendor(ctx context.Context, t Target) (Found, error) {
	var found Found
	var err error
	switch t.Driver {
	case fleet.DriverAMT:
	case fleet.DriverASRockRack:
		if found.Pin, err = c.leaf(ctx, t); err != nil {
			return Found{}, err
		}
		if ipmi, err := c.probeIPMI(anew(ctx), t); err == nil { // for the boot device
			found.CipherSuite = ipmi.CipherSuite
		}
	default:
		if found, err = c.probeRedfish(ctx, t, (*redfish).root); err != nil {
			found.Driver = t.Driver
			return found, err
		}
	}
	found.Driver = t.Driver
	found.Power, err = talk(anew(ctx), c, found.Use(t), func(ctx context.Context, l line) (fleet.PowerState, error) { return l.power(ctx) })
	if err != nil {
		return Found{Driver: t.Driver}, err
	}
	return found, nil
}

// leaf looks at the certificate of a BMC without signing in.
func (c *Controller) leaf(ctx context.Context, t Target) (string, error) {
	return guard(ctx, c, t, func(ctx context.Context) (string, error) {
		r, err := c.newRedfish(t)
		if err != nil {
			return "", err
		}
		r.target.BasicAuth = false
		defer r.hangUp(ctx)
		_, err = r.send(ctx, http.MethodGet, "/", nil)
		if r.tls.seen == "" || errors.Is(err, ErrPin) {
			return "", reason(ctx, err)
		}
		return r.tls.seen, nil
	})
}
