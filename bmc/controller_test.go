package bmc_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/types"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/bmc/bmctest"
	"github.com/rackstage/provision/fleet"
)

func TestADeadBMCIsNamedWithin10Seconds(t *testing.T) {
	t.Parallel()
	c, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0") // takes everything, says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	target := bmc.Target{Node: "n1", Address: c.LocalAddr().String(), Username: "admin", Password: "secret"}
	began := time.Now()
	err = bmc.New(bmc.Options{}).PowerOn(t.Context(), target)
	if !errors.Is(err, bmc.ErrNoAnswer) || fleet.CodeOf(err) != "E-BMC-TIMEOUT" {
		t.Errorf("PowerOn = %v (%s), want %v", err, fleet.CodeOf(err), bmc.ErrNoAnswer)
	}
	if want := "provision power status n1"; !strings.Contains(fleet.HintOf(err), want) {
		t.Errorf("hint %q does not tell %q", fleet.HintOf(err), want)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
}

// soon is what "at once" may take on a machine that has far too much to do: less
// than any patience of ours.
const soon = 8 * time.Second

func TestAClosedPortIsNamedAtOnce(t *testing.T) {
	t.Parallel()
	target := bmc.Target{Address: net.JoinHostPort("127.0.0.1", bmctest.FreePort(t)), Username: "admin", Password: "secret"}
	began := time.Now()
	_, err := bmc.New(bmc.Options{}).Power(t.Context(), target)
	if !errors.Is(err, bmc.ErrClosed) {
		t.Errorf("Power = %v, want %v", err, bmc.ErrClosed)
	}
	if took := time.Since(began); took > soon {
		t.Errorf("it took %s", took)
	}
}

func TestABMCWithoutAFreeSessionIsNamed(t *testing.T) {
	t.Parallel()
	reference, _ := startReference(t)
	tests := map[string]struct {
		target   bmc.Target
		password string
		suite    types.CipherSuiteID
	}{
		"ipmi_sim":          {startSim(t), bmctest.Password, types.CipherSuiteID3},
		"the reference BMC": {reference, referencePassword, types.CipherSuiteID17},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.target.CipherSuite = int(tt.suite)
			fill(t, tt.target, tt.password, tt.suite)
			_, err := bmc.New(bmc.Options{}).Power(t.Context(), tt.target)
			if !errors.Is(err, bmc.ErrSessions) {
				t.Errorf("Power = %v, want %v", err, bmc.ErrSessions)
			}
		})
	}
}

// fill opens sessions until the BMC has no more.
func fill(t *testing.T, target bmc.Target, password string, suite types.CipherSuiteID) {
	t.Helper()
	addr, err := net.ResolveUDPAddr("udp", target.Address)
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		c, err := client.NewClient(addr.IP.String(), addr.Port, target.Username, password)
		if err != nil {
			t.Fatal(err)
		}
		c.WithCipherSuiteID(suite).WithMaxPrivilegeLevel(types.PrivilegeLevelOperator)
		if _, err := c.OpenSession(t.Context()); err != nil {
			return
		}
		t.Cleanup(func() { _ = c.Close(context.WithoutCancel(t.Context())) })
		if _, err := c.RAKPMessage1(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := c.RAKPMessage3(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("the BMC has more than 100 sessions")
}

// A switchboard is a dialer that counts its open connections.
type switchboard struct {
	mu         sync.Mutex
	open, most int
	closed     map[string]time.Time // by address
	rest       time.Duration        // the shortest pause between two connections to one address
}

func (s *switchboard) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok := s.closed[address]; ok {
		s.rest = min(s.rest, time.Since(at))
	}
	s.open++
	s.most = max(s.most, s.open)
	return &line{Conn: c, board: s, address: address}, nil
}

type line struct {
	net.Conn
	board   *switchboard
	address string
	once    sync.Once
}

func (l *line) Close() error {
	l.once.Do(func() {
		l.board.mu.Lock()
		defer l.board.mu.Unlock()
		l.board.open--
		l.board.closed[l.address] = time.Now()
	})
	return l.Conn.Close()
}

func TestBMCsAreNotPressed(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		bmcs, limit, most int
	}{
		"one conversation with a BMC at a time":  {1, 100, 1},
		"a limit for all BMCs together":          {4, 2, 2},
		"as many at a time as there are BMCs":    {3, 100, 3},
		"no more than one when the limit is one": {3, 1, 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			const interval = 30 * time.Millisecond
			board := &switchboard{closed: map[string]time.Time{}, rest: time.Hour}
			c := bmc.New(bmc.Options{Limit: tt.limit, Interval: interval, Dial: board.dial})
			var wg sync.WaitGroup
			for range tt.bmcs {
				target, _ := startReference(t)
				target.CipherSuite = 17
				for range 4 {
					wg.Go(func() {
						if _, err := c.Power(t.Context(), target); err != nil {
							t.Error(err)
						}
					})
				}
			}
			wg.Wait()
			if board.most > tt.most {
				t.Errorf("%d connections at the same time, want at most %d", board.most, tt.most)
			}
			if board.rest < interval {
				t.Errorf("a BMC was left alone for %s only, want %s", board.rest, interval)
			}
		})
	}
}

func TestALibraryThatIgnoresTheContextHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	stuck, left := make(chan struct{}), make(chan struct{})
	defer func() {
		close(stuck)
		<-left
	}()
	c := bmc.New(bmc.Options{
		Timeout: 50 * time.Millisecond, Settle: 100 * time.Millisecond,
		Dial: func(context.Context, string, string) (net.Conn, error) {
			defer close(left) // it comes here once
			<-stuck
			return nil, net.ErrClosed
		},
	})
	target := bmc.Target{Address: "192.0.2.1", Username: "admin", Password: "secret"}
	for _, want := range []error{bmc.ErrNoAnswer, bmc.ErrBusy} { // it still hangs when we come again
		began := time.Now()
		_, err := c.Power(t.Context(), target)
		if !errors.Is(err, want) {
			t.Errorf("Power = %v, want %v", err, want)
		}
		if took := time.Since(began); took > soon {
			t.Errorf("it took %s", took)
		}
	}
}

func TestWhoGivesUpIsNotHeld(t *testing.T) {
	t.Parallel()
	target, chassis := startReference(t)
	chassis.setFault("lying")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	began := time.Now()
	err := bmc.New(bmc.Options{}).PowerOn(ctx, target)
	if !errors.Is(err, bmc.ErrNoEffect) {
		t.Errorf("PowerOn = %v, want %v", err, bmc.ErrNoEffect)
	}
	if took := time.Since(began); took > soon {
		t.Errorf("it took %s", took)
	}
}
