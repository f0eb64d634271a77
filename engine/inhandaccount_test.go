package engine

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rackstage/provision/fleet"
)

// A signBook is a workshop that writes down which password its BMC is told.
type signBook struct {
	*workshop
	mu     sync.Mutex
	told   []string
	onRead func() // when it has been read what the machine has
	onSet  func() // when BIOS settings are set
}

func (s *signBook) sign(n fleet.Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = append(s.told, n.BMC.SealedPassword)
}

func (s *signBook) read() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.onRead != nil {
		s.onRead()
	}
	s.onRead = nil
}

func (s *signBook) heard() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	told := s.told
	s.told = nil
	return told
}

// Switch implements Power.
func (s *signBook) Switch(ctx context.Context, n fleet.Node, o fleet.PowerOrder) (fleet.Switched, error) {
	s.sign(n)
	if ctx.Err() != nil {
		return fleet.Switched{}, context.Cause(ctx)
	}
	return s.workshop.Switch(ctx, n, o)
}

// Examine implements Examiner.
func (s *signBook) Examine(ctx context.Context, n fleet.Node, all bool) (fleet.Checkup, error) {
	s.sign(n)
	defer s.read()
	return s.workshop.Examine(ctx, n, all)
}

// BIOS implements Setup.
func (s *signBook) BIOS(ctx context.Context, n fleet.Node) (fleet.BIOS, error) {
	s.sign(n)
	defer s.read()
	return s.workshop.BIOS(ctx, n)
}

// SetBIOS implements Setup.
func (s *signBook) SetBIOS(ctx context.Context, n fleet.Node, want map[string]string) error {
	s.sign(n)
	if s.onSet != nil {
		s.onSet()
	}
	return s.workshop.SetBIOS(ctx, n, want)
}

// Update implements Updater.
func (s *signBook) Update(ctx context.Context, n fleet.Node, job fleet.FirmwareJob, keep func(fleet.FirmwareJob) error, tell func(percent int)) error {
	s.sign(n)
	return s.workshop.Update(ctx, n, job, keep, tell)
}

// Check implements Checker.
func (s *signBook) Check(_ context.Context, n fleet.Node, _ bool) (fleet.BMCCheck, error) {
	s.sign(n)
	return fleet.BMCCheck{}, nil
}

func (s *signBook) work(t *testing.T, during func(e *Engine)) {
	t.Helper()
	s.workshop.work(t, func(e *Engine) {
		e.refine(t.Context(), "n-1", func(b fleet.BMC) fleet.BMC { b.Pin = "p"; return b })
		during(e)
	}, func(o *Options) { o.Power, o.Setup, o.Updater, o.Examiner, o.Checker = s, s, s, s, s })
}

// Whatever is ordered while a BMC gets another password is done with that one.
func TestWhatIsOrderedWhileAnAccountIsChangedWaitsForIt(t *testing.T) {
	orders := map[string]func(ctx context.Context, e *Engine) error{
		"a power order": func(ctx context.Context, e *Engine) error {
			_, err := e.Power(ctx, "ada", "n-1", fleet.PowerOrder{Op: fleet.PowerCycle})
			return err
		},
		"a check": func(ctx context.Context, e *Engine) error {
			_, err := e.CheckBMC(ctx, "ada", "n-1", false)
			return err
		},
		"a check with power": func(ctx context.Context, e *Engine) error {
			_, err := e.CheckBMC(ctx, "ada", "n-1", true)
			return err
		},
		"an update of firmware": func(ctx context.Context, e *Engine) error {
			_, _, err := e.UpdateFirmware(ctx, "ada", "n-1", fleet.UpdateOptions{})
			return err
		},
		"a change of BIOS settings": func(ctx context.Context, e *Engine) error {
			_, _, err := e.ApplyBIOS(ctx, "ada", "n-1", false)
			return err
		},
	}
	begins := map[string]func(e *Engine) bool{
		"a new password":              func(e *Engine) bool { return e.enrolments.begin("n-1") },
		"an account from the ramdisk": func(e *Engine) bool { return e.enrolments.turn("n-1", "boot-1") },
	}
	for name, order := range orders {
		for change, begin := range begins {
			t.Run(name+"/"+change, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := &signBook{workshop: newWorkshop()}
					s.work(t, func(e *Engine) {
						if !begin(e) {
							t.Fatal("its account is being changed already")
						}
						done := make(chan error, 1)
						go func() { done <- order(t.Context(), e) }()
						wait(2 * time.Minute)
						if told := s.heard(); len(told) > 0 {
							t.Errorf("while its account is being changed the BMC is told %q", told)
						}
						s.changed(t, e, done)
					})
				})
			})
		}
	}
}

// changed ends the change of the account, and sees that the order that waited for
// it goes on with the new password.
func (s *signBook) changed(t *testing.T, e *Engine, done <-chan error) {
	t.Helper()
	e.refine(t.Context(), "n-1", func(b fleet.BMC) fleet.BMC { b.SealedPassword = "new"; return b })
	e.endEnrolment("n-1")
	if err := <-done; err != nil {
		t.Errorf("the order = %v", err)
	}
	wait(time.Hour)
	if told := s.heard(); len(told) == 0 || slices.Contains(told, "x") {
		t.Errorf("afterwards it is told %q", told)
	}
}

// Nothing keeps a take-over from a BMC that is only asked what the machine has.
func TestAnAccountThatIsChangedAfterTheQuestionIsWaitedFor(t *testing.T) {
	orders := map[string]func(ctx context.Context, e *Engine) error{
		"an update of firmware": func(ctx context.Context, e *Engine) error {
			_, _, err := e.UpdateFirmware(ctx, "ada", "n-1", fleet.UpdateOptions{})
			return err
		},
		"a change of BIOS settings": func(ctx context.Context, e *Engine) error {
			_, _, err := e.ApplyBIOS(ctx, "ada", "n-1", false)
			return err
		},
	}
	for name, order := range orders {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &signBook{workshop: newWorkshop()}
				s.work(t, func(e *Engine) {
					s.onRead = func() {
						if !e.enrolments.begin("n-1") {
							t.Error("its account is being changed already")
						}
					}
					done := make(chan error, 1)
					go func() { done <- order(t.Context(), e) }()
					wait(2 * time.Minute)
					if told := s.heard(); len(told) != 1 {
						t.Errorf("while its account is being changed the BMC is told %q, want the first question alone", told)
					}
					s.changed(t, e, done)
				})
			})
		})
	}
}

// The settings are staged by then: somebody has to restart the machine, and to look.
func TestBIOSSettingsAreCarriedThroughForWhoHangsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, hangUp := context.WithCancelCause(t.Context())
		s := &signBook{workshop: newWorkshop(), onSet: func() { hangUp(errors.New("the client hung up")) }}
		s.work(t, func(e *Engine) {
			if _, _, err := e.ApplyBIOS(ctx, "ada", "n-1", false); err != nil {
				t.Errorf("ApplyBIOS = %v", err)
			}
			wait(30 * time.Minute)
			if n, _ := e.Node("n-1"); s.starts != 1 || len(n.BMC.Findings) > 0 || s.settings["SysProfile"] != "Performance" {
				t.Errorf("%d starts, findings %+v, settings %v", s.starts, n.BMC.Findings, s.settings)
			}
		})
	})
}

// Its agent makes the account: when the machine hangs, nobody else ends that.
func TestAMachineThatHangsWhileItMakesAnAccountCanBeSwitched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &signBook{workshop: newWorkshop()}
		s.work(t, func(e *Engine) {
			e.enrolments.turn("n-1", "boot-1")
			began := time.Now()
			_, err := e.Power(t.Context(), "ada", "n-1", fleet.PowerOrder{Op: fleet.PowerCycle})
			if took := time.Since(began); err != nil || s.starts != 1 || took != madeWithin {
				t.Errorf("the order = %v, %d starts after %s; want 1 after %s", err, s.starts, took, madeWithin)
			}
			e.endEnrolment("n-1")
		})
	})
}
