package fleet

import (
	"errors"
	"fmt"
	"strings"
)

// The longest user name and password of a BMC: those of IPMI 2.0.
const maxBMCUser = 16

// validateFactory checks the accounts that BMCs come with.
func (s Site) validateFactory() error {
	var errs []error
	for i, a := range s.Factory {
		on := fmt.Sprintf("bmc_accounts[%d]", i)
		if a.Username == "" || len(a.Username) > maxBMCUser || strings.ContainsFunc(a.Username, func(r rune) bool { return r <= ' ' || r > '~' }) {
			errs = append(errs, Invalidf(on+".username", fmt.Sprintf("use 1 to %d plain characters", maxBMCUser), fmt.Errorf("user name %.40q", a.Username)))
		}
		if a.PasswordFile == "" {
			errs = append(errs, Invalidf(on+".password_file", "give the path of a file on the server", errors.New("no password file")))
		}
		if !validMACPrefix(a.MACPrefix) {
			errs = append(errs, Invalidf(on+".mac", "write the first bytes with colons: 52:54:00", fmt.Errorf("MAC prefix %q", a.MACPrefix)))
		}
	}
	for i, r := range s.Rules {
		if u := r.BMC.Username; len(u) > maxBMCUser && r.BMC.MakesAccount() {
			errs = append(errs, Invalidf(fmt.Sprintf("rules[%d].bmc.username", i), fmt.Sprintf("use at most %d characters", maxBMCUser), fmt.Errorf("user name %.40q", u)))
		}
	}
	for i, a := range s.BMCCA {
		if a.File == "" {
			errs = append(errs, Invalidf(fmt.Sprintf("bmc_ca[%d]", i), "give the path of a file on the server", errors.New("no file")))
		}
	}
	for i, n := range s.Subnets {
		if n.OOB && (!n.Mode.GivesAddresses() || !n.CIDR.Addr().Is4()) {
			errs = append(errs, Invalidf(fmt.Sprintf("subnets[%d].oob", i), "use mode: full, or reserved with a reservation for each BMC, on an IPv4 subnet",
				fmt.Errorf("BMCs are found by the addresses that we give out, and in mode %s there are none", n.Mode)))
		}
	}
	return errors.Join(errs...)
}
