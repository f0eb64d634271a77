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
	bmctest.Run(t, func(t *testing.T) bmctest.Subject { return simSubject(t, fleet.DriverIPMI) })
}

// simSubject is a simulator for the contract.
func simSubject(t *testing.T, driver fleet.BMCDriver) bmctest.Subject {
	t.Helper()
	s := bmctest.StartIPMI(t, bmctest.IPMIOptions{})
	target := s.Target()
	target.Driver = driver
	return bmctest.Subject{
		Target: target, Found: bmc.Found{Driver: driver, CipherSuite: 3}, NoSuite: 17,
		On: s.On, NextBoot: s.NextBoot, SetFault: func(f bmctest.Fault) { s.SetFault(t, f) },
		Started: func() {}, // it keeps the device
	}
}
