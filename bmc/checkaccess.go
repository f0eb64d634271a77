package bmc

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/command/app"
	"github.com/bougou/go-ipmi/pkg/types"

	"github.com/rackstage/provision/fleet"
)

// signIn is what everything else needs.
func (k *checkup) signIn(ctx context.Context) outcome {
	if _, err := k.c.Power(ctx, k.t); err != nil {
		return k.failed(err)
	}
	switch {
	case k.t.Driver.Web() && k.t.BasicAuth:
		return fine("as %s, with each request", k.t.Username)
	case k.t.Driver.Web():
		return fine("as %s, with a session", k.t.Username)
	case k.t.Driver == fleet.DriverAMT:
		return fine("as %s", k.t.Username)
	}
	return fine("as %s, with cipher suite %d", k.t.Username, k.c.gate(k.t).suites(k.t.suite())[0])
}

// wrongPassword tries one, once, so that nobody is locked out.
func (k *checkup) wrongPassword(ctx context.Context) outcome {
	stranger := k.t
	stranger.Password = Password("Wr0ng" + rand.Text()[:8])
	if !k.t.Driver.Web() {
		stranger.CipherSuite = int(k.c.gate(k.t).suites(k.t.suite())[0])
	}
	_, err := k.c.Power(ctx, stranger)
	switch {
	case err == nil:
		return fail("take the BMC of "+k.t.name()+" off the network, and restore its factory settings", "it takes any password")
	case errors.Is(err, ErrLogin):
		return fine("is refused")
	}
	return k.unable("nothing; but a wrong password of "+k.t.name()+" will not be named as such", err)
}

// slowSuite is how long a BMC may take to say no to a cipher suite; one that
// takes longer does not answer at all.
const slowSuite = 2 * time.Second

// cipherSuites tries them, also where IPMI is beside the Redfish service that we
// speak with.
func (k *checkup) cipherSuites(ctx context.Context) outcome {
	ctx, t, err := k.byIPMIToo(ctx)
	switch {
	case silent(err):
		return fine("IPMI over LAN is off")
	case err != nil:
		return k.failed(err)
	}
	zero, err := k.takesZero(ctx, t)
	if err != nil {
		return k.failed(err)
	}
	works, hangs, refused := k.trySuites(ctx, t)
	list := "it takes " + strings.Join(works, " and ")
	switch {
	case zero && len(works) == 0:
		return fail(k.withoutZero(), "it takes 0: whoever knows a user name gets in without its password")
	case zero:
		return fail(k.withoutZero(), "%s, and 0: whoever knows a user name gets in without its password", list)
	case refused != nil:
		k.deaf = refused
		return warn("switch IPMI over LAN off in the settings of the BMC of "+k.t.name()+", or let its user in by IPMI too", "not 0; IPMI does not take our account: %s", k.failed(refused).detail)
	case len(works) == 0:
		return fail("allow cipher suite 17, or 3, in the settings of the BMC of "+k.t.name(), "neither 17 nor 3")
	case works[0] == "17":
		return fine("%s; not 0", list)
	}
	if hangs {
		k.need(func(q *fleet.BMCQuirks) { q.CipherSuite = int(types.CipherSuiteID3) })
		return warn("keep its profile; new firmware may know suite 17", "%s, and does not answer to 17", list)
	}
	return warn("allow cipher suite 17 (HMAC-SHA256) in the settings of the BMC of "+k.t.name()+", or update its firmware", "%s; not 17", list)
}

func (k *checkup) withoutZero() string {
	return "switch off cipher suite 0 in the settings of the BMC of " + k.t.name()
}

// byIPMIToo returns the target as IPMI reaches it, and why not. A service beside
// the one that we speak with may be off: that is no silence of the BMC.
func (k *checkup) byIPMIToo(ctx context.Context) (context.Context, Target, error) {
	t := k.t
	if !t.Driver.Web() {
		return ctx, t, nil
	}
	t.Driver = fleet.DriverIPMI
	ctx = anew(ctx)
	_, k.deaf = converse(ctx, k.c, t, func(ctx context.Context) (none struct{}, err error) { return none, k.c.knock(ctx, t) })
	return ctx, t, k.deaf
}

// knock asks whether IPMI is there, which needs no account.
func (c *Controller) knock(ctx context.Context, t Target) error {
	host, port, err := t.at(t.Ports.IPMI, ipmiPort)
	if err != nil {
		return err
	}
	conn, err := c.o.Dial(ctx, "udp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return reason(ctx, err)
	}
	defer conn.Close()
	if err := greet(ctx, conn); err != nil {
		return reason(ctx, err)
	}
	return nil
}

// takesZero reports whether cipher suite 0 opens a session, which needs no account.
func (k *checkup) takesZero(ctx context.Context, t Target) (bool, error) {
	t.Username, t.Password = "", ""
	found, err := k.c.Look(ctx, t)
	return slices.ContainsFunc(found, func(f fleet.Finding) bool { return f.Code == fleet.CodeBMCCipherZero }), err
}

// trySuites signs in with each. Who is refused does not try again: accounts are
// locked by that.
func (k *checkup) trySuites(ctx context.Context, t Target) (works []string, hangs bool, refused error) {
	if err := t.check(); err != nil {
		return nil, false, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	for _, suite := range []types.CipherSuiteID{types.CipherSuiteID17, types.CipherSuiteID3} {
		began := time.Now()
		_, err := guard(ctx, k.c, t, func(ctx context.Context) (none struct{}, err error) {
			s, err := k.c.login(ctx, t, suite, operator)
			if err == nil {
				s.hangUp(ctx)
			}
			return none, err
		})
		err = classify(err)
		switch {
		case err == nil:
			works = append(works, fmt.Sprint(int(suite)))
		case errors.Is(err, ErrLogin), errors.Is(err, ErrDenied):
			return works, false, err
		case suite == types.CipherSuiteID17 && !errors.Is(err, ErrCipher) && time.Since(began) > slowSuite:
			hangs = true
		}
	}
	return works, hangs, nil
}

// soonExpired is how long before its end a certificate is worth a word.
const soonExpired = 30 * 24 * time.Hour

func (k *checkup) certificate(ctx context.Context) outcome {
	g, err := talkRedfish(ctx, k.c, k.t, func(ctx context.Context, r *redfish) (guardian, error) {
		return *r.tls, r.get(ctx, rootPath, new(map[string]any))
	})
	switch {
	case err != nil:
		return k.failed(err)
	case g.leaf == nil: // nothing was said before
		return fail("look at the BMC of "+k.t.name()+": provision bmc probe", "it showed none")
	}
	left := time.Until(g.leaf.NotAfter)
	renew := "renew the certificate of the BMC of " + k.t.name() + ", then: provision bmc accept " + k.t.name()
	held := "pinned"
	if g.signed {
		held = "signed by an authority of ours"
		renew = "renew the certificate of the BMC of " + k.t.name()
	}
	text := fmt.Sprintf("%s, of %s, until %s, %s", tls.VersionName(g.version), clipText(subject(g.leaf)), g.leaf.NotAfter.Format(time.DateOnly), held)
	switch key, _ := g.leaf.PublicKey.(*rsa.PublicKey); {
	case left < 0:
		return warn(renew, "%s: it has expired", text)
	case left < soonExpired:
		return warn(renew, "%s: it expires soon", text)
	case key != nil && key.N.BitLen() < 2048:
		return warn(renew, "%s: its key has %d bits only", text, key.N.BitLen())
	}
	return fine("%s", text)
}

func subject(c *x509.Certificate) string {
	if c.Subject.CommonName != "" {
		return c.Subject.CommonName
	}
	return c.Subject.String()
}

func (k *checkup) privilege(ctx context.Context) outcome {
	if k.t.Driver.Web() {
		return k.role(ctx)
	}
	_, err := talkIPMI(ctx, k.c, k.t, administrator, func(context.Context, *client.Client) (none struct{}, err error) { return none, nil })
	switch {
	case errors.Is(err, ErrDenied):
		return warn("give the BMC's user of "+k.t.name()+" the privilege ADMINISTRATOR, if its password shall be rotated", "operator: enough for power and boot device")
	case err != nil:
		return k.failed(err)
	}
	return fine("administrator")
}

func (k *checkup) role(ctx context.Context) outcome {
	role, err := talkRedfish(ctx, k.c, k.t, func(ctx context.Context, r *redfish) (string, error) {
		s, err := r.accountService(ctx)
		if err != nil {
			return "", err
		}
		path, err := r.account(ctx, s.Accounts.Path, k.t.Username)
		if err != nil {
			return "", err
		}
		a, err := r.readAccount(ctx, path)
		return string(a.RoleID), err
	})
	switch {
	case errors.Is(err, ErrUnsupported), errors.Is(err, ErrDenied):
		return k.unable("nothing; but passwords of "+k.t.name()+" cannot be rotated", err)
	case err != nil:
		return k.failed(err)
	case role == "ReadOnly":
		return fail("give the BMC's user of "+k.t.name()+" the role Operator", "its role is ReadOnly")
	}
	return fine("role %s", role)
}

// enoughSessions is one for us, one for a console, and one for somebody else.
const enoughSessions = 3

func (k *checkup) sessions(ctx context.Context) outcome {
	var got, before, after int
	var err error
	switch {
	case k.t.Driver.Web() && (k.t.BasicAuth || k.t.Quirks.NoSessions):
		return fine("none are needed")
	case k.t.Driver.Web():
		got, before, after, err = k.webSessions(ctx)
	default:
		return k.ipmiSessions(ctx)
	}
	switch {
	case err != nil:
		return k.failed(err)
	case got < enoughSessions:
		return warn("close other programs' sessions with the BMC of "+k.t.name()+", or allow more", "%d of ours at the same time, no more", got)
	case after > before:
		return fail("update the firmware of the BMC of "+k.t.name()+": it will run out of sessions", "%d were closed and are still there", after-before)
	}
	return fine("%d at the same time, and none is left behind", got)
}

// webSessions opens some at the same time and closes them. It returns how many
// there were of all, before and after.
func (k *checkup) webSessions(ctx context.Context) (got, before, after int, err error) {
	type counted struct{ got, before, after int }
	n, err := talkRedfish(ctx, k.c, k.t, func(ctx context.Context, r *redfish) (n counted, err error) {
		list := func() int {
			paths, listErr := r.members(ctx, r.sessions(ctx))
			if listErr != nil {
				return 0 // it does not tell
			}
			return len(paths)
		}
		n.got, n.before = 1, list()
		var others []*redfish
		for range enoughSessions - 1 {
			other, openErr := k.c.openRedfish(ctx, k.t)
			if openErr != nil {
				if !errors.Is(openErr, ErrSessions) {
					err = openErr
				}
				break
			}
			others = append(others, other)
		}
		n.got += len(others)
		for _, other := range others {
			other.hangUp(ctx)
		}
		n.after = list()
		return n, err
	})
	return n.got, n.before, n.after, err
}

func (k *checkup) ipmiSessions(ctx context.Context) outcome {
	table, err := k.sessionTable(ctx)
	if err != nil {
		return k.unable("nothing; the BMC of "+k.t.name()+" does not show its sessions", err)
	}
	for range enoughSessions {
		if _, err := k.c.Power(ctx, k.t); err != nil {
			return k.failed(err)
		}
	}
	later, err := k.sessionTable(ctx)
	most, now := int(table.PossibleActiveSessions), int(later.CurrentActiveSessions)
	switch {
	case err != nil:
		return k.failed(err)
	case now >= int(table.CurrentActiveSessions)+enoughSessions:
		return fail("update the firmware of the BMC of "+k.t.name()+": it will run out of sessions", "%d were closed and are still there", now-int(table.CurrentActiveSessions))
	case most-now < enoughSessions-1:
		return warn("close other programs' sessions with the BMC of "+k.t.name(), "%d of %d are in use", now, most)
	}
	return fine("%d of %d are in use, and none is left behind", now, most)
}

func (k *checkup) sessionTable(ctx context.Context) (*app.GetSessionInfoResponse, error) {
	table, err := talkIPMI(ctx, k.c, k.t, operator, func(ctx context.Context, ipmi *client.Client) (*app.GetSessionInfoResponse, error) {
		return ipmi.GetCurrentSessionInfo(ctx)
	})
	if err == nil && table.PossibleActiveSessions == 0 {
		err = fmt.Errorf("%w: a table of no sessions", ErrRejected)
	}
	return table, err
}
