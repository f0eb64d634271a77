package engine

import (
	"context"
	"slices"

	"github.com/rackstage/provision/fleet"
)

// BeginBMC returns the password that a BMC is to get before it says whose it
// is: some say nothing until the one that they came with is changed. It is
// stored before it is returned, and tried when that BMC is met again, until the
// BMC is somebody's. The one that was begun before is given again; a shape
// after the first is asked for when the one before was refused. It returns ""
// when there are no more shapes.
func (e *Engine) BeginBMC(ctx context.Context, mac fleet.MAC, user string, shape int) (sealed string, err error) {
	if e.Vault == nil {
		return "", nil
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

// dropBegun forgets what was begun with a BMC: a node knows it now.
func (t *tx) dropBegun(mac fleet.MAC) {
	site := t.w.site
	if t.site != nil {
		site = *t.site
	}
	ours := func(a fleet.FactoryAccount) bool { return a.MACPrefix == string(mac) }
	if !slices.ContainsFunc(site.Begun, ours) {
		return
	}
	site.Begun = slices.DeleteFunc(slices.Clone(site.Begun), ours)
	t.site = &site
}
