package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"github.com/rackstage/provision/fleet"
)

// mediaLife is how long the CD image of one boot can be read, and its ticket be
// redeemed: firmware's checks of much memory, and a ramdisk that comes through
// a slow BMC. It ends before that with the agent's hello, with a later image,
// and when it is taken out.
const mediaLife = 30 * time.Minute

// mintMedia makes the secret with which a node's BMC may read the CD image of
// one boot. That of an earlier boot is worth nothing from now on.
func (e *Engine) mintMedia(ctx context.Context, n fleet.Node) (secret string, err error) {
	secret, hash := fleet.NewSecret()
	err = e.update(ctx, func(t *tx) error {
		t.tickets[hash] = fleet.Ticket{
			Hash: hash, Purpose: fleet.TicketMedia, MAC: n.MAC, Node: n.ID, Expires: t.now.Add(mediaLife), Made: e.tickets.place(),
		}
		return nil
	})
	return secret, err
}

// OpenMedia returns the boot whose image a BMC asks for. The ticket that stands
// on the image is the same each time: a BMC reads the image piece by piece.
func (e *Engine) OpenMedia(secret string) (fleet.MediaBoot, error) {
	hash := fleet.HashSecret(secret)
	t, err := e.world.ticket(hash, fleet.TicketMedia, time.Now())
	if err != nil {
		return fleet.MediaBoot{}, err
	}
	if last, ok := e.world.media(t.MAC); !ok || last.Hash != hash || !last.Redeemed.IsZero() {
		return fleet.MediaBoot{}, badTicket(errors.New("its boot is over, or another one has begun"))
	}
	n, ok := e.world.node(t.Node)
	if !ok {
		return fleet.MediaBoot{}, unknownNode(string(t.Node))
	}
	return fleet.MediaBoot{Node: n, Hello: e.tickets.write(t.Made, t.Expires, t.MAC, netip.Addr{}), Expires: t.Expires}, nil
}

// media returns the ticket of the CD image that was made last for a machine.
func (w *world) media(mac fleet.MAC) (fleet.Ticket, bool) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	t, ok := w.medias[mac]
	return t, ok
}

// endMedia ends the CD image that was made at a place in the order of tickets. It
// reports whether it was the last one and had not ended before.
func (t *tx) endMedia(mac fleet.MAC, made int64) bool {
	m, ok := t.w.media(mac)
	if !ok || m.Made != made || !m.Redeemed.IsZero() {
		return false
	}
	m.Redeemed = t.now
	t.tickets[m.Hash] = m
	return true
}

// endMedia ends a machine's CD image, if there is one.
func (e *Engine) endMedia(ctx context.Context, mac fleet.MAC) error {
	return e.update(context.WithoutCancel(ctx), func(t *tx) error {
		if m, ok := t.w.media(mac); ok {
			t.endMedia(mac, m.Made)
		}
		return nil
	})
}

// insertOwn has a node's BMC fetch a CD image of ours for its next boot. The
// image's URL is known to nobody else: it is in no event and no error.
func (e *Engine) insertOwn(ctx context.Context, n fleet.Node, o fleet.PowerOrder) (fleet.Switched, error) {
	if o.Persist {
		return fleet.Switched{}, fleet.Invalidf("power "+string(o.Op), "leave --persist out, or name an image of your own: --url", errors.New("a CD image of ours is for one boot"))
	}
	if e.Media == nil {
		return fleet.Switched{}, noImage(n, errors.New("this server makes none"))
	}
	if err := showsMedia(n.BMC); err != nil {
		return fleet.Switched{}, err
	}
	secret, err := e.mintMedia(ctx, n)
	if err != nil {
		return fleet.Switched{}, err
	}
	var done fleet.Switched
	if o.URL, err = e.Media.MediaURL(ctx, n, secret); err == nil {
		done, err = e.Options.Power.Switch(ctx, n, o)
		e.notePin(ctx, n, err)
	}
	if err != nil {
		if lost := e.endMedia(ctx, n.MAC); lost != nil {
			e.Log.ErrorContext(ctx, "end of CD image not stored", "node", n.ID, "err", lost)
		}
		return done, masked(err, secret)
	}
	return done, nil
}

func noImage(n fleet.Node, err error) error {
	return &fleet.Error{
		Kind: fleet.Conflict, Code: fleet.CodeMediaImage, Op: "make CD image", On: "node " + n.Title(), Err: err,
		Hint: fleet.Diagnose(fleet.CodeMediaImage).FixFor(n.Title()),
	}
}

// discSecret is the secret of a CD image, or most of it, as it stands in URLs, also
// in ones that stand in others.
var discSecret = regexp.MustCompile(`(?i)(media(?:/|\\/|%(?:25)*2F))[a-z0-9_-]{16,}`)

// masked leaves the secrets of CD images out of an error: BMCs repeat the URLs
// that they were given, each in its way. Of a secret that is known nothing else
// has to be there.
func masked(err error, known ...string) error {
	hide := func(text string) string {
		for _, secret := range known {
			text = strings.ReplaceAll(text, secret, "…")
		}
		return discSecret.ReplaceAllString(text, "${1}…")
	}
	if err == nil || hide(err.Error()) == err.Error() && hide(fleet.HintOf(err)) == fleet.HintOf(err) {
		return err
	}
	return &fleet.Error{Kind: fleet.KindOf(err), Code: fleet.CodeOf(err), Hint: hide(fleet.HintOf(err)), Err: errors.New(hide(err.Error()))}
}

// showsMedia says what is in the way of a BMC's showing CD images, as far as its
// driver tells.
func showsMedia(b fleet.BMC) error {
	if via := b.Via(); via != "" && !via.ShowsMedia() {
		return &fleet.Error{
			Kind: fleet.Conflict, Code: fleet.CodeMediaNone, Op: "boot from a CD image", Err: fmt.Errorf("driver %s reaches no virtual CD drive (%s)", via, fleet.CodeMediaNone),
			Hint: "have its BMC speak Redfish, or take boot: media out of its rule in site.yaml",
		}
	}
	return nil
}

// bootable says why a run could not have a machine boot what we give it, as far
// as that is known before.
func bootable(b fleet.BMC) error {
	if b.Boot != fleet.BootMedia {
		return nil
	}
	return showsMedia(b)
}

// ejectSoon takes the CD image out whose ramdisk has said hello, beside
// everything else. Nothing reads it any more, and a BMC that has a copy of it
// would boot the machine from it again.
func (e *Engine) ejectSoon(n fleet.Node) {
	if !n.BMC.Usable() {
		return
	}
	e.runs.Go(func() {
		ctx, cancel := context.WithTimeout(e.running, ejectWithin)
		defer cancel()
		_ = e.eject(ctx, n) // it is in the node's record, and a run tries again before the reboot
	})
}

const ejectWithin = 2 * time.Minute

// eject takes out what is in a node's virtual CD drive, and writes down what
// became of that.
func (e *Engine) eject(ctx context.Context, n fleet.Node) error {
	o := fleet.PowerOrder{Op: fleet.MediaEject}
	done, err := e.switchNode(ctx, n, o)
	if err != nil {
		e.Log.WarnContext(ctx, "CD image not taken out", "node", n.ID, "err", err)
	}
	return errors.Join(err, e.update(context.WithoutCancel(ctx), func(t *tx) error {
		now, lost := t.node(n.ID)
		if lost != nil {
			return nil //nolint:nilerr // nobody is left to be written about
		}
		t.event(fleet.EventPower, now, "engine", powerText(o, done, err))
		return nil
	}))
}

// emptyDrive sees that a machine which is about to start its own system finds no
// CD of ours.
func (e *Engine) emptyDrive(ctx context.Context, n fleet.Node) error {
	if n.BMC.Boot != fleet.BootMedia || !n.BMC.Usable() {
		return nil
	}
	_, err := e.switchNode(ctx, n, fleet.PowerOrder{Op: fleet.MediaEject})
	return err
}

// clearDrive takes the CD image out after a run that has failed, so that the
// machine does not boot it when somebody switches it on. One whose end was noted
// may be in all the same: the BMC took it, and its answer was lost.
func (j job) clearDrive(ctx context.Context) {
	n, _, err := j.load()
	if err != nil || !n.BMC.Usable() {
		return
	}
	m, inserted := j.e.world.media(n.MAC)
	counts := inserted && m.Redeemed.IsZero()
	if n.BMC.Boot != fleet.BootMedia && !counts {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, ejectWithin)
	defer cancel()
	_ = j.e.eject(ctx, n) // it is in the node's record
}

// silentCD says how far a machine got that was to boot from a CD image.
func silentCD(n fleet.Node, err error) error {
	hint := "its BMC has read the CD image, and its agent never said hello: see its console; it may have booted something else, or its network card's driver is missing"
	if n.Phase == fleet.PhasePower {
		return &fleet.Error{
			Kind: fleet.Unreachable, Code: fleet.CodeMediaUnread, Op: "wait for agent", On: "node " + n.Title(), Err: err,
			Hint: fleet.Diagnose(fleet.CodeMediaUnread).FixFor(n.Title()),
		}
	}
	return &fleet.Error{Kind: fleet.Unreachable, Code: "E-BOOT-SILENT", Op: "wait for agent", On: "node " + n.Title(), Err: err, Hint: hint}
}
