package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/rackstage/provision/fleet"
)

// A pinChange is the error of a BMC that shows another TLS certificate than the
// one that is pinned.
type pinChange interface{ NewPin() string }

// notePin keeps the certificate that a BMC shows now, when that is why it was
// not spoken to. Nothing is sent to it until somebody accepts it.
func (e *Engine) notePin(ctx context.Context, n fleet.Node, err error) {
	var change pinChange
	if !errors.As(err, &change) {
		return
	}
	pin := change.NewPin()
	e.Raise(fleet.CodeBMCPin, n.Title(), "BMC "+n.BMC.Address+" shows "+pin)
	if n.BMC.NewPin == pin {
		return
	}
	err = e.update(context.WithoutCancel(ctx), func(t *tx) error {
		now, err := t.node(n.ID)
		if err != nil {
			return err
		}
		now.BMC.NewPin = pin
		t.event(fleet.EventUnexpected, now, "engine", fmt.Sprintf("BMC %s shows another TLS certificate: %s, pinned is %s", now.BMC.Address, pin, now.BMC.Pin))
		t.put(now)
		return nil
	})
	if err != nil {
		e.Log.ErrorContext(ctx, "new certificate of a BMC not recorded", "node", n.ID, "err", err)
	}
}

// AcceptPin makes the TLS certificate that a BMC shows now the one that it has.
// Who accepts names it, so that it is the one that was looked at.
func (e *Engine) AcceptPin(ctx context.Context, actor, ref, pin string) (fleet.Node, error) {
	found, err := e.Node(ref)
	if err != nil {
		return found, err
	}
	if strings.HasPrefix(pin, hostKeyPrefix) {
		return e.setHostKey(ctx, actor, found, pin)
	}
	err = e.update(ctx, func(t *tx) error {
		n, err := t.node(found.ID)
		if err != nil {
			return err
		}
		if n.BMC.NewPin == "" || !strings.EqualFold(n.BMC.NewPin, pin) {
			return &fleet.Error{
				Kind: fleet.Conflict, Code: fleet.CodeBMCPin, Op: "accept certificate", On: "node " + n.Title(),
				Err: errors.New("its BMC does not show this certificate"), Hint: "look at what it shows: provision nodes show " + n.Title(),
			}
		}
		t.event(fleet.EventAccess, n, actor, fmt.Sprintf("accepted the BMC's TLS certificate %s in place of %s", n.BMC.NewPin, n.BMC.Pin))
		n.BMC.Pin, n.BMC.NewPin = n.BMC.NewPin, ""
		t.put(n)
		found = n
		return nil
	})
	if err == nil {
		e.Clear(fleet.CodeBMCPin, found.Title())
	}
	return found, err
}

// RenewedPin notes that a BMC shows another TLS certificate, which an authority
// of the site has signed: that is nobody's business but the record's. Addr is where
// it was shown: what is shown elsewhere says nothing of the node's BMC.
func (e *Engine) RenewedPin(id fleet.NodeID, addr, pin string) error {
	title := ""
	err := e.update(e.running, func(t *tx) error {
		n, err := t.node(id)
		if err != nil || n.BMC.Address != addr || strings.EqualFold(n.BMC.Pin, pin) {
			return err
		}
		t.event(fleet.EventChanged, n, "engine", fmt.Sprintf("BMC %s has renewed its TLS certificate: %s in place of %s, signed by an authority of bmc_ca", n.BMC.Address, pin, n.BMC.Pin))
		n.BMC.Pin, n.BMC.NewPin = pin, ""
		t.put(n)
		title = n.Title()
		return nil
	})
	if title != "" {
		e.Clear(fleet.CodeBMCPin, title)
	}
	return err
}

// remindPins raises again what waits to be accepted: alarms fade.
func (e *Engine) remindPins() {
	for _, n := range e.nodesThat(func(n fleet.Node) bool { return n.BMC.NewPin != "" }) {
		e.Raise(fleet.CodeBMCPin, n.Title(), "BMC "+n.BMC.Address+" shows "+n.BMC.NewPin)
	}
}
