package bmc_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab/redfish"
)

// Services differ in how they come to an account more. Each time it is one
// that signs in, and may make others.
func TestAnAccountIsMadeOverTheNetwork(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		options  redfish.Options
		password bmc.Password
		want     error
	}{
		"by adding it to the list":                        {redfish.Options{}, nextPassword, nil},
		"in an empty slot":                                {redfish.Options{Slots: true}, nextPassword, nil},
		"in an empty slot that was not changed meanwhile": {redfish.Options{Slots: true, Faults: redfish.Faults{NeedsETag: true}}, nextPassword, nil},
		"in an empty slot whose ETag it shows elsewhere":  {redfish.Options{Slots: true, Faults: redfish.Faults{NeedsETag: true, BodyETag: true}}, nextPassword, nil},
		"whose password is declared to be the final one":  {redfish.Options{Faults: redfish.Faults{BornExpired: true}}, nextPassword, nil},
		"in a slot, the same":                             {redfish.Options{Slots: true, Faults: redfish.Faults{BornExpired: true}}, nextPassword, nil},
		"but none where there is no place":                {redfish.Options{Faults: redfish.Faults{NoNewAccounts: true}}, nextPassword, bmc.ErrUnsupported},
		"but none where no slot can be filled":            {redfish.Options{Slots: true, Faults: redfish.Faults{NoNewAccounts: true}}, nextPassword, bmc.ErrUnsupported},
		"but none where nothing can be changed":           {redfish.Options{Slots: true, Faults: redfish.Faults{NoPatch: true}}, nextPassword, bmc.ErrUnsupported},
		"but not with a password that is too short":       {redfish.Options{Policy: redfish.Policy{Min: 17}}, nextPassword, bmc.ErrShape},
		"but not with a password that is too long":        {redfish.Options{Policy: redfish.Policy{Max: 12}}, nextPassword, bmc.ErrShape},
		"but not with a password that is too plain":       {redfish.Options{Policy: redfish.Policy{Special: true}}, nextPassword, bmc.ErrShape},
		"nor in a slot":                                   {redfish.Options{Slots: true, Policy: redfish.Policy{Special: true}}, nextPassword, bmc.ErrShape},
		"with one that has specials":                      {redfish.Options{Slots: true, Policy: redfish.Policy{Special: true}}, "Next-1234-Pass-1", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target, s := startRedfish(t, tt.options)
			target = probed(t, target)
			before := s.Counts().Refused
			err := quick().MakeAccount(t.Context(), target, "provision", tt.password)
			if !errors.Is(err, tt.want) {
				t.Fatalf("MakeAccount = %v, want %v", err, tt.want)
			}
			if strings.Contains(fmt.Sprintf("%+v %s", err, fleet.HintOf(err)), string(tt.password)) {
				t.Error("the error shows the password")
			}
			ours := target
			ours.Username, ours.Password = "provision", tt.password
			if tt.want == nil {
				target.Password = worksAsAdministrator(t, ours)
				if n := s.Counts().Refused; n != before {
					t.Errorf("%d logins were refused on the way", n-before)
				}
			}
			if _, err := quick().Power(t.Context(), target); err != nil {
				t.Errorf("the account that was there: %v", err)
			}
		})
	}
}

// worksAsAdministrator signs in, and gives the user that was there before
// another password, which it returns.
func worksAsAdministrator(t *testing.T, target bmc.Target) bmc.Password {
	t.Helper()
	password := bmc.Password("Other-" + rand.Text()[:10])
	if err := quick().SetPassword(t.Context(), probed(t, target), "admin", password); err != nil {
		t.Fatalf("the account is no administrator: %v", err)
	}
	return password
}

func TestAnAccountThatIsThereGetsThePassword(t *testing.T) {
	t.Parallel()
	for _, slots := range []bool{false, true} {
		target, _ := startRedfish(t, redfish.Options{Slots: slots, Faults: redfish.Faults{NeedsETag: true}})
		target = probed(t, target)
		for _, password := range []bmc.Password{nextPassword, "Again1234Again12"} {
			if err := quick().MakeAccount(t.Context(), target, "provision", password); err != nil {
				t.Fatal(err)
			}
			ours := target
			ours.Username, ours.Password = "provision", password
			target.Password = worksAsAdministrator(t, ours)
		}
	}
}

func TestAUserWhoIsGoneIsKnownAsThat(t *testing.T) {
	t.Parallel()
	for _, slots := range []bool{false, true} {
		target, _ := startRedfish(t, redfish.Options{Slots: slots})
		if err := quick().SetPassword(t.Context(), probed(t, target), "root", nextPassword); !errors.Is(err, bmc.ErrNoUser) || fleet.CodeOf(err) != fleet.CodeBMCUnsupported {
			t.Errorf("with slots %t, SetPassword = %v, want %v", slots, err, bmc.ErrNoUser)
		}
	}
	if err := quick().SetPassword(t.Context(), startSim(t), "root", nextPassword); !errors.Is(err, bmc.ErrNoUser) {
		t.Errorf("by IPMI, SetPassword = %v, want %v", err, bmc.ErrNoUser)
	}
}

func TestIPMIMakesNoAccountOverTheNetwork(t *testing.T) {
	t.Parallel()
	target, _ := startReference(t)
	if err := quick().MakeAccount(t.Context(), target, "provision", nextPassword); fleet.CodeOf(err) != fleet.CodeBMCUnsupported {
		t.Errorf("MakeAccount = %v, want %s", err, fleet.CodeBMCUnsupported)
	}
	if err := quick().MakeAccount(t.Context(), target, "a name that is far too long", nextPassword); fleet.KindOf(err) != fleet.Invalid {
		t.Errorf("a long name: %v", err)
	}
}

// A BMC that does nothing before a password is changed says so by that name,
// whatever is asked of it, and takes the change.
func TestAPasswordThatHasToBeChangedIsNamedAndChanged(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]redfish.Faults{"with a session": {}, "without a session": {ShutOut: true}, "without a word": {QuietChange: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target, s := startRedfish(t, redfish.Options{Expired: true, Faults: f})
			found, err := quick().Probe(t.Context(), target)
			if !errors.Is(err, bmc.ErrMustChange) || fleet.CodeOf(err) != fleet.CodeBMCMustChange || !strings.Contains(fleet.HintOf(err), "provision bmc rotate n1") {
				t.Fatalf("Probe = %v (%s), %s", err, fleet.CodeOf(err), fleet.HintOf(err))
			}
			target = found.Use(target)
			if _, err := quick().Power(t.Context(), target); !errors.Is(err, bmc.ErrMustChange) {
				t.Errorf("Power = %v, want %v", err, bmc.ErrMustChange)
			}
			if err := quick().ChangePassword(t.Context(), target, nextPassword); err != nil {
				t.Fatal(err)
			}
			target.Password = nextPassword
			if _, err := quick().Power(t.Context(), probed(t, target)); err != nil {
				t.Errorf("with the new password: %v", err)
			}
			if n := s.Sessions(); n > 0 {
				t.Errorf("%d sessions are left behind", n)
			}
		})
	}
}
