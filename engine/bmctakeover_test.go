package engine

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rackstage/provision/fleet"
)

func unsupported(code fleet.Code) error {
	return &fleet.Error{Kind: fleet.Conflict, Code: code, Err: errors.New("it does not")}
}

func TestABMCThatLetUsInGetsAnAccountOfOurs(t *testing.T) {
	tests := map[string]struct {
		access  fleet.BMCAccess
		spoil   func(b *fakeBMC)
		user    string // that is used then
		own     bool
		retired []string
		found   []string
	}{
		"beside the one that it came with": {fleet.BMCAccess{}, func(*fakeBMC) {}, "provision", true, []string{"admin"}, nil},
		"under the name of its rule":       {fleet.BMCAccess{Username: "ops"}, func(*fakeBMC) {}, "ops", true, []string{"admin"}, nil},
		"of another shape":                 {fleet.BMCAccess{}, func(b *fakeBMC) { b.shape = 1 }, "provision", true, []string{"admin"}, nil},
		"which is the one that it came with, where its name is the one that we want": {fleet.BMCAccess{Username: "admin"}, func(*fakeBMC) {}, "admin", true, nil, nil},
		"which is the one that it came with, where none can be made":                 {fleet.BMCAccess{}, func(b *fakeBMC) { b.makes = unsupported(fleet.CodeBMCUnsupported) }, "admin", true, nil, nil},
		"or that one, where a new one would be of no use":                            {fleet.BMCAccess{}, func(b *fakeBMC) { b.makes = unsupported(fleet.CodeBMCMustChange) }, "admin", true, nil, nil},
		"and what it came with is a finding while that works":                        {fleet.BMCAccess{}, func(b *fakeBMC) { b.keeps = true }, "provision", true, nil, []string{fleet.CodeBMCFactory}},
		"or that one, where a new one does not sign in":                              {fleet.BMCAccess{}, func(b *fakeBMC) { b.forgets = true }, "admin", true, nil, nil},
		"but not when it fails":                                                      {fleet.BMCAccess{}, func(b *fakeBMC) { b.makes = unsupported("E-BMC-REJECTED") }, "admin", false, nil, []string{fleet.CodeBMCFactory}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRack(t.Context(), t, 0)
				r.bmc = newFakeBMC()
				r.bmc.maker = true
				tt.spoil(r.bmc)
				s := &memoryStore{world: fleet.World{Site: enrolSite(tt.access)}}
				s.world.Site.Begun = []fleet.FactoryAccount{{MACPrefix: string(foundBMC().MAC), Username: "admin", SealedPassword: "x"}, {MACPrefix: "aa:bb:cc:00:00:02"}}
				s.world.Site.Factory = []fleet.FactoryAccount{{Username: "admin", SealedPassword: "factory"}}
				e, kill := r.serve(s)
				_, err := e.AdoptBMC(t.Context(), foundBMC())
				n := s.only(t)
				if wantErr := len(tt.found) > 0; (err != nil) != wantErr {
					t.Errorf("AdoptBMC = %v, want an error: %t", err, wantErr)
				}
				if n.BMC.Username != tt.user || n.BMC.Own != tt.own || !r.bmc.opens(n) || n.BMC.Next != (fleet.BMCAccount{}) && tt.own {
					t.Errorf("the BMC is %+v, want user %s that signs in", n.BMC, tt.user)
				}
				if !slices.Equal(r.bmc.retired, tt.retired) || !slices.Equal(codes(n), tt.found) || tt.own && len(tt.found) == 0 && r.bmc.users["admin"] == "factory" {
					t.Errorf("retired %v, findings %v, factory's password is %q", r.bmc.retired, n.BMC.Findings, r.bmc.users["admin"])
				}
				if len(e.Site().Begun) != 1 {
					t.Errorf("what was begun with it is still kept: %+v", e.Site().Begun)
				}
				checkAlarms(t, e, tt.found)
				kill()
				synctest.Wait()
			})
		})
	}
}

// What was left undone is done when the BMC is met again.
func TestATakeOverGoesOnWhereItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRack(t.Context(), t, 0)
		r.bmc = newFakeBMC()
		r.bmc.maker, r.bmc.keeps = true, true
		s := &memoryStore{world: fleet.World{Site: enrolSite(fleet.BMCAccess{})}}
		e, kill := r.serve(s)
		if _, err := e.AdoptBMC(t.Context(), foundBMC()); err == nil {
			t.Error("a password that it came with stays, and nobody is told")
		}
		r.bmc.change(func(b *fakeBMC) { b.keeps = false })
		n, err := e.TakeOverBMC(t.Context(), s.only(t).ID)
		if err != nil || n.BMC.Factory != "" || len(codes(n)) > 0 || !slices.Equal(r.bmc.retired, []string{"admin"}) {
			t.Errorf("TakeOverBMC = %+v, %v; retired %v", n.BMC, err, r.bmc.retired)
		}
		if _, err := e.TakeOverBMC(t.Context(), n.ID); err != nil || len(r.bmc.retired) != 1 {
			t.Errorf("once more: %v, retired %v", err, r.bmc.retired)
		}
		kill()
		synctest.Wait()
	})
}

// Nobody loses an account that is his: of several machines behind one BMC.
func TestABMCOfSeveralNodesIsNotTakenOverForOne(t *testing.T) {
	tests := map[string]fleet.BMC{
		"with what it came with":         {Username: "admin", SealedPassword: "factory", Factory: "admin"},
		"ours, beside what it came with": {Username: "provision", SealedPassword: "sealed n-1 1 0", Own: true, Factory: "admin"},
	}
	for name, has := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, s := rotationRack(t)
				r.bmc.maker = true
				r.bmc.users["provision"] = "n-1 1 0"
				s.world.Site.Rules = nil
				two := s.world.Nodes[0]
				two.ID, two.MAC = "n-2", "52:54:00:00:00:02"
				has.Address = bmcAddress
				s.world.Nodes[0].BMC = has
				s.world.Nodes = append(s.world.Nodes, two)
				e, kill := r.serve(s)
				if _, err := e.TakeOverBMC(t.Context(), "n-1"); fleet.CodeOf(err) != fleet.CodeBMCSeveral || fleet.HintOf(err) == "" {
					t.Errorf("TakeOverBMC = %v, want %s and what to do", err, fleet.CodeBMCSeveral)
				}
				if n, _ := e.Node("n-2"); !r.bmc.opens(n) {
					t.Error("the other node is locked out")
				}
				if e.enrolments.changes("n-1") {
					t.Error("its account stays taken")
				}
				kill()
				synctest.Wait()
			})
		})
	}
}

// bornExpired is a BMC whose new accounts have to change their password first.
type bornExpired struct{ *fakeBMC }

// Probe implements Prober.
func (b bornExpired) Probe(ctx context.Context, n fleet.Node, anyway bool) (fleet.BMC, error) {
	found, err := b.fakeBMC.Probe(ctx, n, anyway)
	if err == nil && n.BMC.Username == "provision" {
		return n.BMC, &fleet.Error{Kind: fleet.Conflict, Code: fleet.CodeBMCMustChange, Err: errors.New("change it first")}
	}
	return found, err
}

// A server was killed when it had made an account that is of no use before its
// password is changed.
func TestATakeOverIsNotStuckWithAnAccountOfNoUse(t *testing.T) {
	const next = "sealed n-1 1 0"
	tests := map[string]struct {
		has  fleet.BMC // beside what is open
		user string    // of the factory, and its password
		word string
		want string // the user in the end
	}{
		"which is another than it came with": {fleet.BMC{Username: "admin", SealedPassword: "factory", Factory: "admin"}, "admin", "factory", "admin"},
		"which is the one that we had":       {fleet.BMC{Username: "provision", SealedPassword: "sealed n-1 0 0", Own: true}, "admin", "factory", "provision"},
		"while what it came with is over":    {fleet.BMC{Username: "admin", SealedPassword: "factory", Factory: "admin"}, "admin", "another", "provision"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := bornExpired{newFakeBMC()}
				b.maker = true
				b.users = map[string]string{tt.user: tt.word, "provision": strings.TrimPrefix(next, "sealed ")}
				tt.has.Address, tt.has.Driver = bmcAddress, fleet.DriverRedfish
				tt.has.Next = fleet.BMCAccount{Address: bmcAddress, Username: "provision", SealedPassword: next}
				s := &memoryStore{world: fleet.World{Site: enrolSite(fleet.BMCAccess{}), Nodes: []fleet.Node{{
					ID: "n-1", MAC: "52:54:00:00:00:01", State: fleet.Ready, Revision: 1, BMC: tt.has,
				}}}}
				e := New(Options{Store: s, Power: newWorkshop(), Prober: b, Vault: b, Accounts: b, Maker: b})
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- e.Run(ctx) }()
				<-e.Started()
				time.Sleep(time.Minute) //nolint:forbidigo // fake time: synctest
				if _, err := e.TakeOverBMC(t.Context(), "n-1"); err != nil && tt.want == "admin" {
					t.Error(err)
				}
				n := s.only(t)
				if _, err := b.fakeBMC.Probe(t.Context(), n, false); err != nil || n.BMC.Next.Open() || n.BMC.Username != tt.want || !n.BMC.Own {
					t.Errorf("the BMC is %+v, which says %v; want our own account %s and nothing open", n.BMC, err, tt.want)
				}
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// Whoever comes back has the account, and the one that the BMC came with is not
// what it was.
func TestATakeOverSurvivesAKillAtAnyMoment(t *testing.T) {
	begin := func(t *testing.T) (*rack, *memoryStore) {
		r := newRack(t.Context(), t, 0)
		r.bmc = newFakeBMC()
		r.bmc.maker = true
		return r, &memoryStore{world: fleet.World{Site: enrolSite(fleet.BMCAccess{})}}
	}
	adopt := func(t *testing.T, _ *rack, e *Engine) {
		_, _ = e.AdoptBMC(t.Context(), foundBMC()) // what it says does not matter: nobody hears it
	}
	killedAtEachWrite(t, begin, adopt, func(t *testing.T, r *rack, s *memoryStore, e *Engine, cut int) {
		s.mu.Lock()
		nodes := len(s.world.Nodes)
		s.mu.Unlock()
		var err error
		if nodes == 0 { // as the watcher does
			_, err = e.AdoptBMC(t.Context(), foundBMC())
		} else {
			_, err = e.TakeOverBMC(t.Context(), s.only(t).ID)
		}
		if n := s.only(t); err != nil || !n.BMC.Own || n.BMC.Username != "provision" || n.BMC.Factory != "" || !r.bmc.opens(n) || len(codes(n)) > 0 || r.bmc.users["admin"] == "factory" {
			t.Errorf("killed at write %d: %v, the BMC is %+v, the factory's password %q", cut, err, n.BMC, r.bmc.users["admin"])
		}
	})
}

func TestWhatIsBegunWithABMCIsKeptUntilItIsSomebodys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRack(t.Context(), t, 0)
		r.bmc = newFakeBMC()
		s := &memoryStore{world: fleet.World{Site: testSite()}}
		e, kill := r.serve(s)
		begin := func(mac fleet.MAC, shape int) string {
			t.Helper()
			sealed, err := e.BeginBMC(t.Context(), mac, "root", shape)
			if err != nil {
				t.Fatal(err)
			}
			return sealed
		}
		first := begin("aa:bb:cc:00:00:01", 0)
		if again := begin("aa:bb:cc:00:00:01", 0); again != first || first == "" {
			t.Errorf("begun with %q, and then with %q", first, again)
		}
		second := begin("aa:bb:cc:00:00:01", 1)
		if other := begin("aa:bb:cc:00:00:02", 0); second == first || other == first || other == second {
			t.Errorf("passwords %q, %q, %q", first, second, other)
		}
		if none := begin("aa:bb:cc:00:00:01", 2); none != "" {
			t.Errorf("a third shape: %q", none)
		}
		if _, err := e.Apply(t.Context(), "ada", testSite(), false); err != nil {
			t.Fatal(err)
		}
		kill()
		e, kill = r.serve(s)
		if b := e.Site().Begun; len(b) != 2 || b[0].SealedPassword != second {
			t.Errorf("after a site was applied and a restart: %+v", b)
		}
		kill()
		synctest.Wait()
	})
}

func TestARenewedCertificateThatIsSignedIsAnEventOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s := rotationRack(t)
		s.world.Nodes[0].BMC.Pin, s.world.Nodes[0].BMC.NewPin = "aa", "bb"
		e, kill := r.serve(s)
		before := s.saves
		for _, addr := range []string{bmcAddress, bmcAddress, "10.77.1.50"} {
			if err := e.RenewedPin("n-1", addr, map[string]string{bmcAddress: "cc"}[addr]); err != nil {
				t.Fatal(err)
			}
		}
		if n := s.only(t); n.BMC.Pin != "cc" || n.BMC.NewPin != "" || s.saves != before+1 {
			t.Errorf("the BMC is %+v, stored %d times", n.BMC, s.saves-before)
		}
		checkAlarms(t, e, nil)
		kill()
		synctest.Wait()
	})
}
