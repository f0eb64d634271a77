package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/rackstage/provision/access"
	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/bmc/oob"
	"github.com/rackstage/provision/fleet"
)

// bmcSecret is what BMC passwords that the site gives are bound to: many nodes
// have the same.
const bmcSecret = "bmc password"

// ownSecret is what the password that we made for a node's BMC is bound to;
// one for a BMC that is no node's yet is bound as those of the site are.
func ownSecret(id fleet.NodeID) string {
	if id == "" {
		return bmcSecret
	}
	return bmcSecret + " of " + string(id)
}

// openBMC brings a node's BMC password out.
func openBMC(sealer *access.Sealer, n fleet.Node) (bmc.Password, error) {
	place := bmcSecret
	if n.BMC.Own {
		place = ownSecret(n.ID)
	}
	password, err := sealer.Open(n.BMC.SealedPassword, place)
	if err == nil {
		return bmc.Password(password), nil
	}
	hint := "apply site.yaml again, so that the password is read from its file"
	if n.BMC.Own {
		hint = "boot the machine from the network once more, so that its BMC gets another password"
	}
	if !sealer.Has(access.KeyOf(n.BMC.SealedPassword)) {
		hint = fleet.HintOf(err) + ", or " + hint
	}
	return "", &fleet.Error{Kind: fleet.Internal, Code: "E-BMC-SECRET", Op: "unseal BMC password", On: "node " + n.Title(), Err: err, Hint: hint}
}

// NewPassword implements engine.Vault.
func (p bmcPower) NewPassword(id fleet.NodeID, shape int) (string, error) {
	password := access.MachinePassword(shape)
	if password == "" {
		return "", nil
	}
	return p.sealer.Seal([]byte(password), ownSecret(id))
}

// Reveal implements engine.Vault.
func (p bmcPower) Reveal(id fleet.NodeID, sealed string) (fleet.Secret, error) {
	password, err := p.sealer.Open(sealed, ownSecret(id))
	return fleet.Secret(password), err
}

// ChangePassword implements engine.Accounts.
func (p bmcPower) ChangePassword(ctx context.Context, n fleet.Node, next fleet.BMCAccount) error {
	t, err := p.target(n)
	if err != nil {
		return err
	}
	password, err := p.Reveal(n.ID, next.SealedPassword)
	if err != nil {
		return err
	}
	return p.bmc.ChangePassword(ctx, t, bmc.Password(password))
}

// MakeAccount implements engine.Maker.
func (p bmcPower) MakeAccount(ctx context.Context, n fleet.Node, next fleet.BMCAccount) error {
	t, err := p.target(n)
	if err != nil {
		return err
	}
	password, err := p.Reveal(n.ID, next.SealedPassword)
	if err != nil {
		return err
	}
	return p.bmc.MakeAccount(ctx, t, next.Username, bmc.Password(password))
}

// RetireAccount implements engine.Maker. A user who has to change the new
// password first is known with it all the same; one who is gone is none any more.
func (p bmcPower) RetireAccount(ctx context.Context, n fleet.Node, user string) error {
	t, err := p.target(n)
	if err != nil {
		return err
	}
	for shape := 0; ; shape++ {
		password := bmc.Password(access.MachinePassword(shape))
		if password == "" {
			return err
		}
		if err = p.bmc.SetPassword(ctx, t, user, password); fleet.CodeOf(err) == fleet.CodeBMCShape {
			continue
		}
		if errors.Is(err, bmc.ErrNoUser) {
			return nil
		}
		if err != nil {
			return err
		}
		t.Username, t.Password = user, password
		_, err = p.bmc.Probe(ctx, t)
		if fleet.CodeOf(err) == fleet.CodeBMCMustChange || fleet.CodeOf(err) == fleet.CodeBMCDenied {
			return nil
		}
		return err
	}
}

// watchBMCs takes in BMCs that get addresses on subnets for them.
func (st *station) watchBMCs(ctx context.Context) error {
	w := &oob.Watcher{
		Leases: st.dhcp, Engine: st.engine, BMCs: st.power.bmc, Log: st.log,
		Open: func(sealed string) (bmc.Password, error) {
			password, err := st.sealer.Open(sealed, bmcSecret)
			return bmc.Password(password), err
		},
		Trust: func() *bmc.Trust { return trustOf(st.engine.Site().BMCCA) },
	}
	return w.Run(ctx)
}

// mostFactory is how many accounts that a BMC may have come with are tried on
// it: BMCs lock out who tries too many.
const mostFactory = 2

// Look implements engine.Accounts. Each account that fits is tried once.
func (p bmcPower) Look(ctx context.Context, n fleet.Node, factory []fleet.FactoryAccount) ([]fleet.Finding, error) {
	via := n.BMC.Via()
	if n.BMC.Address == "" || !via.SignsIn() || via == fleet.DriverPDU || via == fleet.DriverAMT {
		return nil, nil
	}
	found, err := p.bmc.Look(ctx, p.targetOf(n, ""))
	if err != nil {
		return nil, err
	}
	tried := 0
	for _, a := range factory {
		if tried == mostFactory || !a.Fits(n.Inventory.Vendor, n.Inventory.BMC.MAC, n.Inventory.Serial) {
			continue
		}
		password, err := p.sealer.Open(a.SealedPassword, bmcSecret)
		if err != nil {
			return found, err
		}
		tried++
		t := p.targetOf(n, bmc.Password(password))
		t.Username = a.Username
		if _, err := p.bmc.Probe(ctx, t); err == nil {
			found = append(found, fleet.Finding{Code: fleet.CodeBMCFactory, Detail: "user " + a.Username})
			break
		}
	}
	return found, nil
}

// sealBMCPasswords reads the password files that a site names and seals what
// is in them. A password that has not changed keeps its sealed form, so that
// applying the same site again changes nothing.
func sealBMCPasswords(site *fleet.Site, before fleet.Site, sealer *access.Sealer) error {
	read := func(on, file string, sealed *string) error {
		if file == "" {
			return nil
		}
		raw, err := os.ReadFile(file)
		if err == nil && strings.TrimRight(string(raw), "\r\n") == "" {
			err = errors.New("the file is empty")
		}
		if err != nil {
			return fleet.Invalidf(on+".password_file", "the server reads this file: give a path that exists there", err)
		}
		password := strings.TrimRight(string(raw), "\r\n")
		if *sealed = sealedBefore(before, sealer, password); *sealed != "" {
			return nil
		}
		*sealed, err = sealer.Seal([]byte(password), bmcSecret)
		return err
	}
	for i := range site.Rules {
		b := &site.Rules[i].BMC
		if err := read(fmt.Sprintf("rules[%d].bmc", i), b.PasswordFile, &b.SealedPassword); err != nil {
			return err
		}
	}
	for i := range site.Factory {
		a := &site.Factory[i]
		if err := read(fmt.Sprintf("bmc_accounts[%d]", i), a.PasswordFile, &a.SealedPassword); err != nil {
			return err
		}
	}
	return nil
}

// sealedBefore returns the sealed form that a password has had in the site of
// before; "" when it had none.
func sealedBefore(before fleet.Site, sealer *access.Sealer, password string) string {
	same := func(sealed string) bool {
		old, err := sealer.Open(sealed, bmcSecret)
		return err == nil && string(old) == password
	}
	for _, r := range before.Rules {
		if same(r.BMC.SealedPassword) {
			return r.BMC.SealedPassword
		}
	}
	for _, a := range before.Factory {
		if same(a.SealedPassword) {
			return a.SealedPassword
		}
	}
	return ""
}
