package main

import (
	"testing"
	"time"

	"github.com/rackstage/provision/access"
	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab/redfish"
)

func TestAUserWhomSomebodyHasDeletedIsRetired(t *testing.T) {
	t.Parallel()
	sealer, err := access.OpenSealer(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s, err := redfish.Listen(t.Context(), "127.0.0.1:0", redfish.New(redfish.Options{Username: "admin", Password: "Secret123Secret1"}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	sealed, err := sealer.Seal([]byte("Secret123Secret1"), bmcSecret)
	if err != nil {
		t.Fatal(err)
	}
	p := bmcPower{bmc: bmc.New(bmc.Options{Interval: time.Millisecond, Timeout: 3 * time.Second}), sealer: sealer}
	n := fleet.Node{ID: "n-1", MAC: "52:54:00:00:00:01", BMC: fleet.BMC{Address: s.Addr(), Username: "admin", SealedPassword: sealed}}
	if n.BMC, err = p.Probe(t.Context(), n, false); err != nil {
		t.Fatal(err)
	}
	if err := p.RetireAccount(t.Context(), n, "root"); err != nil || s.Service.Counts().Refused > 0 {
		t.Errorf("RetireAccount = %v, %d logins refused; want nothing to be left to be done", err, s.Service.Counts().Refused)
	}
}
