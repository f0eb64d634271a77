package bmc_test

import (
	"testing"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/bmc/bmctest"
	"github.com/rackstage/provision/fleet"
)

// startSim starts a simulator of a machine that is off, and returns how it is
// spoken to.
func startSim(t *testing.T) bmc.Target {
	t.Helper()
	return bmctest.StartIPMI(t, bmctest.IPMIOptions{}).Target()
}

func TestIPMISimKeepsTheContract(t *testing.T) {
	t.Parallel()
	bmctest.Run(t, func(t *testing.T) bmctest.Subject {
		s := bmctest.StartIPMI(t, bmctest.IPMIOptions{})
		return bmctest.Subject{
			Target: s.Target(), Found: bmc.Found{Driver: fleet.DriverIPMI, CipherSuite: 3}, NoSuite: 17,
			On: s.On, NextBoot: s.NextBoot, SetFault: func(f bmctest.Fault) { s.SetFault(t, f) },
		}
	})
}
