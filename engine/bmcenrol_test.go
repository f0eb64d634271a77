package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rackstage/provision/fleet"
)

const bmcAddress = "10.77.1.11"

// A fakeBMC is a BMC with its users, and the vault that its passwords come
// from: sealed, they begin with "sealed ".
type fakeBMC struct {
	mu      sync.Mutex
	users   map[string]string
	address string // "" when it has none
	shape   int    // the first that it takes
	silent  bool
	deaf    bool                 // says yes to a new password, and keeps the old one
	answers func(*fakeBMC) error // when it has a new password; nil: yes
	orders  int
	logins  int
	made    int
	finding []fleet.Finding

	expired bool  // the password has to be changed before anything else
	maker   bool  // accounts can be made over the network; set before it is used
	makes   error // what becomes of that
	forgets bool  // says that it made one, and did not
	keeps   bool  // does not change other users' passwords
	retired []string
}

// MakeAccount implements Maker.
func (b *fakeBMC) MakeAccount(ctx context.Context, n fleet.Node, next fleet.BMCAccount) error {
	if _, err := b.Probe(ctx, n, false); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	password := strings.TrimPrefix(next.SealedPassword, "sealed ")
	switch {
	case b.makes != nil:
		return b.makes
	case !strings.HasSuffix(password, fmt.Sprint(b.shape)):
		return &fleet.Error{Kind: fleet.Conflict, Code: codeShape, Err: errors.New("not such a password")}
	case !b.forgets:
		b.users[next.Username] = password
	}
	return nil
}

// RetireAccount implements Maker.
func (b *fakeBMC) RetireAccount(ctx context.Context, n fleet.Node, user string) error {
	if _, err := b.Probe(ctx, n, false); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.keeps || user == n.BMC.Username {
		return &fleet.Error{Kind: fleet.Denied, Code: "E-BMC-DENIED", Err: errors.New("not that one")}
	}
	b.users[user] = "nobody knows it"
	b.retired = append(b.retired, user)
	return nil
}

func newFakeBMC() *fakeBMC {
	return &fakeBMC{users: map[string]string{"admin": "factory"}, address: bmcAddress}
}

// NewPassword implements Vault.
func (b *fakeBMC) NewPassword(id fleet.NodeID, shape int) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if shape > 1 {
		return "", nil
	}
	b.made++
	return fmt.Sprintf("sealed %s %d %d", id, b.made, shape), nil
}

// Reveal implements Vault.
func (b *fakeBMC) Reveal(id fleet.NodeID, sealed string) (fleet.Secret, error) {
	plain, ok := strings.CutPrefix(sealed, "sealed ")
	if !ok || !strings.HasPrefix(plain, string(id)) {
		return "", errors.New("it does not open")
	}
	return fleet.Secret(plain), nil
}

// order is what the agent does on the machine.
func (b *fakeBMC) order(r fleet.StepReport, o fleet.BMCOrder) fleet.StepReport {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.orders++
	if !strings.HasSuffix(string(o.Password), fmt.Sprint(b.shape)) {
		r.State, r.Failure = fleet.StepFailed, fleet.Failure{Code: codeShape, Text: "not such a password"}
		return r
	}
	b.users[o.Username] = string(o.Password)
	r.BMC = &fleet.BMCReport{Slot: 5, Channel: 1, Address: b.address, Source: "dhcp"}
	return r
}

// Probe implements Prober.
func (b *fakeBMC) Probe(_ context.Context, n fleet.Node, _ bool) (fleet.BMC, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.logins++
	switch {
	case b.silent || n.BMC.Address != b.address:
		return n.BMC, &fleet.Error{Kind: fleet.Unreachable, Code: "E-BMC-TIMEOUT", Err: errors.New("no answer")}
	case strings.TrimPrefix(n.BMC.SealedPassword, "sealed ") != b.users[n.BMC.Username]:
		return n.BMC, &fleet.Error{Kind: fleet.Denied, Code: "E-BMC-LOGIN", Err: errors.New("wrong password")}
	}
	if b.expired {
		return n.BMC, &fleet.Error{Kind: fleet.Conflict, Code: fleet.CodeBMCMustChange, Err: errors.New("change it first")}
	}
	n.BMC.Driver, n.BMC.CipherSuite = fleet.DriverIPMI, 17
	return n.BMC, nil
}

// ChangePassword implements Accounts.
func (b *fakeBMC) ChangePassword(ctx context.Context, n fleet.Node, next fleet.BMCAccount) error {
	if _, err := b.Probe(ctx, n, false); err != nil && fleet.CodeOf(err) != fleet.CodeBMCMustChange {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	password := strings.TrimPrefix(next.SealedPassword, "sealed ")
	if !strings.HasSuffix(password, fmt.Sprint(b.shape)) {
		return &fleet.Error{Kind: fleet.Conflict, Code: codeShape, Err: errors.New("not such a password")}
	}
	if !b.deaf {
		b.expired = false
		b.users[next.Username] = password
	}
	if b.answers != nil {
		return b.answers(b)
	}
	return nil
}

// Look implements Accounts.
func (b *fakeBMC) Look(context.Context, fleet.Node, []fleet.FactoryAccount) ([]fleet.Finding, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.finding, nil
}

// change is a fault that a test makes.
func (b *fakeBMC) change(f func(b *fakeBMC)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(b)
}

func (b *fakeBMC) ordered() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.orders
}

// opens reports whether the node's account signs in.
func (b *fakeBMC) opens(n fleet.Node) bool {
	_, err := b.Probe(context.Background(), n, false)
	return err == nil
}

// enrolSite leaves the accounts to us.
func enrolSite(access fleet.BMCAccess) fleet.Site {
	site := testSite()
	site.Rules[0].BMC = access
	return site
}

// enrolRack is one machine that is switched on once; a minute later all that
// its BMC is in for is over.
func enrolRack(t *testing.T, access fleet.BMCAccess, spoil func(b *fakeBMC)) (*rack, *memoryStore) {
	t.Helper()
	r := newRack(t.Context(), t, 1)
	r.bmc = newFakeBMC()
	r.bmc.change(spoil)
	return r, &memoryStore{world: fleet.World{Site: enrolSite(access)}}
}

func (r *rack) press() {
	r.mu.Lock()
	for _, m := range r.machines {
		m.powerOn()
	}
	r.mu.Unlock()
	time.Sleep(time.Minute) //nolint:forbidigo // fake time: synctest
}

func (r *rack) unplug() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.machines {
		m.powerOff()
	}
}

func (s *memoryStore) only(t *testing.T) fleet.Node {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.world.Nodes) != 1 {
		t.Fatalf("%d nodes, want 1", len(s.world.Nodes))
	}
	return s.world.Nodes[0]
}

func codes(n fleet.Node) (found []string) {
	for _, f := range n.BMC.Findings {
		found = append(found, f.Code)
	}
	return found
}

func TestABMCGetsAnAccountOfOursThatSignsIn(t *testing.T) {
	tests := map[string]struct {
		access fleet.BMCAccess
		spoil  func(b *fakeBMC)
		orders int
		user   string // "": it got none
		found  []string
	}{
		"where the rule says nothing":                 {fleet.BMCAccess{}, func(*fakeBMC) {}, 1, "provision", nil},
		"under the name that the rule says":           {fleet.BMCAccess{Username: "ops"}, func(*fakeBMC) {}, 1, "ops", nil},
		"of another shape when the first is refused":  {fleet.BMCAccess{}, func(b *fakeBMC) { b.shape = 1 }, 2, "provision", nil},
		"but not where it shall be left alone":        {fleet.BMCAccess{Keep: true}, func(*fakeBMC) {}, 0, "", nil},
		"but not where the rule gives one":            {fleet.BMCAccess{Username: "admin", PasswordFile: "f", SealedPassword: "factory"}, func(*fakeBMC) {}, 0, "admin", nil},
		"but not when no shape is taken":              {fleet.BMCAccess{}, func(b *fakeBMC) { b.shape = 9 }, 2, "", []string{fleet.CodeBMCEnrol}},
		"but not when it has no address":              {fleet.BMCAccess{}, func(b *fakeBMC) { b.address = "" }, 1, "", []string{fleet.CodeBMCNoAddress}},
		"but not when it does not answer by network":  {fleet.BMCAccess{}, func(b *fakeBMC) { b.silent = true }, 1, "", []string{fleet.CodeBMCEnrol}},
		"and what else is wrong with it is a finding": {fleet.BMCAccess{}, func(b *fakeBMC) { b.finding = []fleet.Finding{{Code: fleet.CodeBMCCipherZero}} }, 1, "provision", []string{fleet.CodeBMCCipherZero}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, s := enrolRack(t, tt.access, tt.spoil)
				e, kill := r.serve(s)
				r.press()
				n := s.only(t)
				if got := r.bmc.ordered(); got != tt.orders {
					t.Errorf("%d orders, want %d", got, tt.orders)
				}
				if n.BMC.Username != tt.user || tt.user != "" && !r.bmc.opens(n) || n.BMC.Own != (tt.orders > 0 && tt.user != "") {
					t.Errorf("the BMC is %+v, want user %q that signs in", n.BMC, tt.user)
				}
				if got := codes(n); !slices.Equal(got, tt.found) {
					t.Errorf("findings %v, want %v", n.BMC.Findings, tt.found)
				}
				checkAlarms(t, e, tt.found)
				r.unplug()
				kill()
				synctest.Wait()
			})
		})
	}
}

func checkAlarms(t *testing.T, e *Engine, want []string) {
	t.Helper()
	var got []string
	for _, a := range e.Alarms() {
		got = append(got, a.Code)
	}
	if !slices.Equal(got, want) {
		t.Errorf("alarms %v, want %v", got, want)
	}
}

// killedAtEachWrite pulls the server's plug at each of its writes in turn while
// it does something; begin makes a fresh rack for it. A while after it is back,
// the rest is to be seen.
func killedAtEachWrite(t *testing.T, begin func(*testing.T) (*rack, *memoryStore), do func(*testing.T, *rack, *Engine), then func(t *testing.T, r *rack, s *memoryStore, e *Engine, cut int)) {
	t.Helper()
	for cut, cuts := 1, 2; cut < cuts; cut++ {
		synctest.Test(t, func(t *testing.T) {
			r, s := begin(t)
			died := make(chan struct{})
			s.onCut, s.pull = func() { close(died) }, cut
			e, kill := r.serve(s)
			do(t, r, e)
			select {
			case <-died:
				cuts = cut + 2
			default:
			}
			s.mend(kill)
			e, kill = r.serve(s)
			time.Sleep(time.Minute) //nolint:forbidigo // fake time: synctest
			then(t, r, s, e, cut)
			kill()
			synctest.Wait()
		})
	}
}

// In the end the BMC has exactly one account of ours, and it is the one that is
// stored.
func TestAnEnrolmentSurvivesAKillAtAnyMoment(t *testing.T) {
	begin := func(t *testing.T) (*rack, *memoryStore) { return enrolRack(t, fleet.BMCAccess{}, func(*fakeBMC) {}) }
	press := func(_ *testing.T, r *rack, _ *Engine) { r.press() }
	killedAtEachWrite(t, begin, press, func(t *testing.T, r *rack, s *memoryStore, _ *Engine, cut int) {
		r.press() // the next boot mends what was not
		n := s.only(t)
		if !n.BMC.Own || n.BMC.Next != (fleet.BMCAccount{}) || !r.bmc.opens(n) || len(n.BMC.Findings) > 0 {
			t.Errorf("killed at write %d: the BMC is %+v", cut, n.BMC)
		}
		r.unplug()
	})
}

func TestAMachineThatIsApprovedWhileItWaitsGetsItsAccountThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s := enrolRack(t, fleet.BMCAccess{}, func(*fakeBMC) {})
		s.world.Site.Rules[0].Approve = false
		e, kill := r.serve(s)
		r.press()
		if n := s.only(t); r.bmc.ordered() > 0 || n.BMC.Address != "" || n.BMC.Next != (fleet.BMCAccount{}) {
			t.Errorf("a machine that nobody has approved: %d orders, BMC %+v", r.bmc.ordered(), n.BMC)
		}
		if _, err := e.Approve(t.Context(), "ada", string(s.only(t).ID)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) //nolint:forbidigo // fake time: synctest
		if n := s.only(t); !n.BMC.Own || !r.bmc.opens(n) {
			t.Errorf("after its approval the BMC is %+v", n.BMC)
		}
		r.unplug()
		kill()
		synctest.Wait()
	})
}

func TestAnAccountThatTheBMCForgotIsMadeAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s := enrolRack(t, fleet.BMCAccess{}, func(*fakeBMC) {})
		_, kill := r.serve(s)
		r.press()
		r.press() // it is there: nothing is to be made
		if got := r.bmc.ordered(); got != 1 {
			t.Errorf("%d orders for one account", got)
		}
		r.bmc.change(func(b *fakeBMC) { b.users = map[string]string{}; b.address = "10.77.1.12" }) // reset to what it came with
		s.mu.Lock()
		before := s.world.Nodes[0].BMC
		s.mu.Unlock()
		r.press()
		n := s.only(t)
		if n.BMC.SealedPassword != before.SealedPassword || !slices.Equal(codes(n), []string{fleet.CodeBMCEnrol}) {
			t.Errorf("at an address that nobody knows: %+v", n.BMC)
		}
		r.bmc.change(func(b *fakeBMC) { b.address = bmcAddress })
		r.press()
		if n := s.only(t); !r.bmc.opens(n) || len(n.BMC.Findings) > 0 || n.BMC.SealedPassword == before.SealedPassword {
			t.Errorf("after a reset: %+v", n.BMC)
		}
		r.unplug()
		kill()
		synctest.Wait()
	})
}

// rotationRack is one machine whose BMC has an account of ours.
func rotationRack(t *testing.T) (*rack, *memoryStore) {
	t.Helper()
	r, s := enrolRack(t, fleet.BMCAccess{}, func(*fakeBMC) {})
	s.world.Nodes = []fleet.Node{{
		ID: "n-1", MAC: "52:54:00:00:00:01", State: fleet.Ready, Approved: true, Pool: "prd", Stage: "prd", Revision: 1,
		BMC: fleet.BMC{Address: bmcAddress, Username: "admin", SealedPassword: "factory", CipherSuite: 17},
	}}
	return r, s
}

func TestAPasswordIsRotated(t *testing.T) {
	tests := map[string]struct {
		spoil   func(b *fakeBMC)
		rotated bool
		code    fleet.Code
		open    bool // both are kept
	}{
		"when all is well":                   {func(*fakeBMC) {}, true, "", false},
		"to another shape":                   {func(b *fakeBMC) { b.shape = 1 }, true, "", false},
		"not when no shape is taken":         {func(b *fakeBMC) { b.shape = 9 }, false, "", false},
		"not when the BMC says yes only":     {func(b *fakeBMC) { b.deaf = true }, false, fleet.CodeBMCPassword, false},
		"not when the old password is wrong": {func(b *fakeBMC) { b.users["admin"] = "other" }, false, "E-BMC-LOGIN", false},
		"not when the BMC does not answer":   {func(b *fakeBMC) { b.silent = true }, false, "E-BMC-TIMEOUT", false},
		"perhaps, when its answer is lost":   {func(b *fakeBMC) { b.answers = fallSilent }, false, "E-BMC-TIMEOUT", true},
		"when it ends our session with that": {func(b *fakeBMC) { b.answers = endSession }, true, "", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, s := rotationRack(t)
				r.bmc.change(tt.spoil)
				e, kill := r.serve(s)
				_, err := e.RotateBMC(t.Context(), "ada", "n-1")
				if tt.rotated != (err == nil) || tt.code != "" && fleet.CodeOf(err) != tt.code {
					t.Errorf("RotateBMC = %v (%s), want rotated %t (%s)", err, fleet.CodeOf(err), tt.rotated, tt.code)
				}
				n := s.only(t)
				if (n.BMC.SealedPassword != "factory") != tt.rotated || tt.rotated && !r.bmc.opens(n) {
					t.Errorf("the BMC is %+v, rotated %t", n.BMC, tt.rotated)
				}
				if (n.BMC.Next.SealedPassword != "") != tt.open {
					t.Errorf("both are kept: %t, want %t", !tt.open, tt.open)
				}
				kill()
				synctest.Wait()
			})
		})
	}
}

// Whoever comes back knows the password.
func TestARotationSurvivesAKillAtAnyMoment(t *testing.T) {
	rotate := func(t *testing.T, _ *rack, e *Engine) {
		_, _ = e.RotateBMC(t.Context(), "ada", "n-1") // what it says does not matter: nobody hears it
	}
	killedAtEachWrite(t, rotationRack, rotate, func(t *testing.T, r *rack, s *memoryStore, _ *Engine, cut int) {
		if n := s.only(t); n.BMC.Next != (fleet.BMCAccount{}) || !r.bmc.opens(n) {
			t.Errorf("killed at write %d: the BMC is %+v", cut, n.BMC)
		}
	})
}

// A password that was being changed when it got too old is still the old one.
func TestAPasswordThatHasToBeChangedIsRotated(t *testing.T) {
	for _, next := range []string{"", "sealed n-1 1 0"} {
		synctest.Test(t, func(t *testing.T) {
			r, s := rotationRack(t)
			if next != "" {
				s.world.Nodes[0].BMC.Next = fleet.BMCAccount{Address: bmcAddress, Username: "admin", SealedPassword: next}
			}
			r.bmc.change(func(b *fakeBMC) { b.expired = true })
			e, kill := r.serve(s)
			time.Sleep(time.Minute) //nolint:forbidigo // fake time: synctest
			if _, err := e.RotateBMC(t.Context(), "ada", "n-1"); err != nil {
				t.Errorf("with %q begun: %v", next, err)
			}
			if n := s.only(t); !n.BMC.Own || n.BMC.Next != (fleet.BMCAccount{}) || !r.bmc.opens(n) {
				t.Errorf("with %q begun the BMC is %+v", next, n.BMC)
			}
			kill()
			synctest.Wait()
		})
	}
}

func TestAPasswordThatIsNeitherIsAFinding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s := rotationRack(t)
		s.world.Nodes[0].BMC.Next = fleet.BMCAccount{Address: bmcAddress, Username: "admin", SealedPassword: "sealed n-1 1 0"}
		r.bmc.change(func(b *fakeBMC) { b.users["admin"] = "what somebody has set by hand" })
		e, kill := r.serve(s)
		time.Sleep(time.Minute) //nolint:forbidigo // fake time: synctest
		checkAlarms(t, e, []string{fleet.CodeBMCPassword})
		if n := s.only(t); n.BMC.Next.SealedPassword == "" || n.BMC.SealedPassword != "factory" {
			t.Errorf("one of the two was forgotten: %+v", n.BMC)
		}
		r.bmc.mu.Lock()
		if r.bmc.logins > 2 {
			t.Errorf("%d logins: somebody will be locked out", r.bmc.logins)
		}
		r.bmc.mu.Unlock()
		kill()
		synctest.Wait()
	})
}

// Whoever signs in just then would have a password that is over.
func TestAnAccountFromTheRamdiskWaitsForWhoSignsIn(t *testing.T) {
	for name, does := range map[string]handling{"a check": handCheck, "a check with power": handPower, "a power order": handSwitch} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, s := enrolRack(t, fleet.BMCAccess{}, func(*fakeBMC) {})
				e, kill := r.serve(s)
				r.press()
				r.unplug()
				r.bmc.change(func(b *fakeBMC) { b.users = map[string]string{} }) // reset to what it came with
				letGo, err := e.takeInHand(s.only(t), name, "ada", does)
				if err != nil {
					t.Fatal(err)
				}
				r.press()
				if n := s.only(t); r.bmc.ordered() != 1 || e.enrolments.changes(n.ID) || r.bmc.opens(n) {
					t.Errorf("meanwhile it has %d accounts, and is being changed: %t", r.bmc.ordered(), e.enrolments.changes(n.ID))
				}
				letGo()
				wait(time.Minute)
				if n := s.only(t); r.bmc.ordered() != 2 || !r.bmc.opens(n) {
					t.Errorf("afterwards it has got %d accounts, and lets us in: %t", r.bmc.ordered(), r.bmc.opens(n))
				}
				r.unplug()
				kill()
				synctest.Wait()
			})
		})
	}
}
