package engine

import (
	"context"
	"fmt"
	"slices"

	"github.com/rackstage/provision/fleet"
)

// BeginBMC returns the password that a BMC is to get before it says whose it
// is: some say nothing until the one that they came with is changed. It is
// stored before it is returned, and tried when that BMC is met again, until it
// has one of its node. The one that was begun before is given again; a shape
// after the first is asked for when the one before was refused. It returns ""
// when there are no more shapes.
func (e *Engine) BeginBMC(ctx context.Context, mac fleet.MAC, user string, shape int) (sealed string, err error) {
	if e.Vault == nil {
		return "", nil
	}
	if err := e.mayBegin(mac); err != nil {
		return "", err
	}
	fresh, err := e.Vault.NewPassword("", shape)
	if err != nil || fresh == "" {
		return "", err
	}
	err = e.update(ctx, func(t *tx) error {
		site := e.Site()
		i := slices.IndexFunc(site.Begun, func(a fleet.FactoryAccount) bool { return a.MACPrefix == string(mac) && a.Username == user })
		if i >= 0 && shape == 0 {
			sealed = site.Begun[i].SealedPassword
			return nil
		}
		site.Begun = slices.Clone(site.Begun)
		if i >= 0 {
			site.Begun = slices.Delete(site.Begun, i, i+1)
		}
		site.Begun = append(site.Begun, fleet.FactoryAccount{MACPrefix: string(mac), Username: user, SealedPassword: fresh})
		t.site, sealed = &site, fresh
		return nil
	})
	return sealed, err
}

// mayBegin says why a BMC gets no password of ours. Whose it is, only a machine
// that has booted once has told: which rule is for another is not known, and it
// may be one that leaves its BMC alone.
func (e *Engine) mayBegin(mac fleet.MAC) error {
	site := e.Site()
	if n, known := e.NodeByBMC(mac); known {
		if r, ok := site.MatchRule(n); ok && r.BMC.Keep {
			return beginError(mac, fmt.Errorf("the rule of %s leaves its BMC alone", n.Title()), "change its password by hand, or take enrol: false from the rule")
		}
		return nil
	}
	if i := slices.IndexFunc(site.Rules, func(r fleet.Rule) bool { return r.BMC.Keep }); i >= 0 {
		return beginError(mac, fmt.Errorf("rule %q leaves BMCs alone, and this may be one of those", site.Rules[i].Name), "boot its machine from the network once, so that it is known which rule is for it")
	}
	return nil
}

func beginError(mac fleet.MAC, err error, hint string) error {
	return &fleet.Error{Kind: fleet.Conflict, Code: fleet.CodeBMCStranger, Op: "change the password that the BMC came with", On: string(mac), Err: err, Hint: hint}
}

// foundBegun reports whether a BMC was found with a password of ours that was
// begun, and not with one that it came with.
func foundBegun(site fleet.Site, f fleet.FoundBMC) bool {
	return begunFor(site, f.MAC, f.BMC.Username) &&
		!slices.ContainsFunc(site.Factory, func(a fleet.FactoryAccount) bool { return a.SealedPassword == f.BMC.SealedPassword })
}

// holdsBegun reports whether a node's BMC has a password of ours that was begun,
// and none yet that is the node's own: no rule replaces it.
func holdsBegun(site fleet.Site, n fleet.Node) bool {
	return !n.BMC.Own && n.BMC.SealedPassword != "" && begunFor(site, n.Inventory.BMC.MAC, n.BMC.Username)
}

func begunFor(site fleet.Site, mac fleet.MAC, user string) bool {
	return mac != "" && slices.ContainsFunc(site.Begun, func(a fleet.FactoryAccount) bool { return a.MACPrefix == string(mac) && a.Username == user })
}

// siteNow is the site as it is within the change.
func (t *tx) siteNow() fleet.Site {
	if t.site != nil {
		return *t.site
	}
	return t.w.site
}

// dropBegun forgets what was begun with a BMC: it has a password of its node now,
// or one that it came with.
func (t *tx) dropBegun(mac fleet.MAC) {
	site := t.siteNow()
	ours := func(a fleet.FactoryAccount) bool { return a.MACPrefix == string(mac) }
	if !slices.ContainsFunc(site.Begun, ours) {
		return
	}
	site.Begun = slices.DeleteFunc(slices.Clone(site.Begun), ours)
	t.site = &site
}
