package bmc_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ipmi "github.com/bougou/go-ipmi/pkg/bmc"
	"github.com/bougou/go-ipmi/pkg/hal"
	"github.com/bougou/go-ipmi/pkg/hal/mock"
	"github.com/bougou/go-ipmi/pkg/types"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/bmc/bmctest"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab/redfish"
)

// A port is a machine's serial port, seen from the machine.
type port interface {
	Print(text string) bool
	Typed() string
}

// A mockPort is one of go-ipmi's mock hardware.
type mockPort struct{ *mock.FakeConsoleConn }

// Print implements port: somebody reads there always.
func (p mockPort) Print(text string) bool {
	p.FeedRX([]byte(text))
	return true
}

// Typed implements port.
func (p mockPort) Typed() string { return p.TXString() }

// A breakPort counts breaks, which the mock does without a lock of its own that
// others could take.
type breakPort struct {
	mockPort
	held *atomic.Int64
}

func (p breakPort) SendBreak(context.Context) error {
	p.held.Add(1)
	return nil
}

// write has a machine write to its serial port as soon as its BMC is there.
func write(t *testing.T, p port, text string) {
	t.Helper()
	until(t, "the BMC is at the serial port", func() bool { return p.Print(text) })
}

// generous is more than anything takes that comes at all.
const generous = time.Minute

func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(generous); time.Now().Before(deadline); <-tick.C {
		if is() {
			return
		}
	}
	t.Fatalf("in vain: %s", what)
}

// A screen collects what a console shows.
type screen struct {
	mu   sync.Mutex
	text strings.Builder
	err  error
	done chan struct{}
}

func watch(c bmc.Console) *screen {
	s := &screen{done: make(chan struct{})}
	go func() {
		defer close(s.done)
		buf := make([]byte, 512)
		for {
			n, err := c.Read(buf)
			s.mu.Lock()
			s.text.Write(buf[:n])
			s.err = err
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return s
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func (s *screen) end(t *testing.T) error {
	t.Helper()
	select {
	case <-s.done:
	case <-time.After(generous):
		t.Fatal("the console does not end")
	}
	return s.err
}

// consoles are the BMCs that consoles are tried with.
var consoles = map[string]func(t *testing.T) (bmc.Target, port){
	"ipmi_sim": func(t *testing.T) (bmc.Target, port) {
		p := bmctest.OpenSerialPort(t)
		return bmctest.StartIPMI(t, bmctest.IPMIOptions{Serial: p}).Target(), p
	},
	"the reference BMC": func(t *testing.T) (bmc.Target, port) {
		target, _, p := startReferenceConsole(t)
		return target, p
	},
}

// startReferenceConsole starts a reference BMC with a serial port, and with a
// second account for somebody else.
func startReferenceConsole(t *testing.T) (bmc.Target, *ipmi.BMC, breakPort) {
	t.Helper()
	p := breakPort{mockPort{&mock.FakeConsoleConn{}}, new(atomic.Int64)}
	equip := func(h *mock.HAL) {
		h.SetConsole(&mock.Console{OpenHook: func(context.Context) (hal.ConsoleConn, error) { return p, nil }})
	}
	target, _, b := startReferenceWith(t, equip, func(b *ipmi.BMC) {
		other, err := b.Users.Add(3, "other")
		if err != nil {
			t.Fatal(err)
		}
		other.SetPassword([]byte(referencePassword))
		other.Enabled = true
		for _, id := range []uint8{2, 3} {
			err := b.Users.Update(id, func(u *ipmi.User) error {
				u.ChannelAccess[1] = ipmi.UserChannelAccess{MaxPrivilege: ipmi.PrivilegeLevelAdministrator, Enabled: true}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	})
	return target, b, p
}

func openConsole(t *testing.T, c *bmc.Controller, target bmc.Target, o bmc.ConsoleOptions) bmc.Console {
	t.Helper()
	console, err := c.OpenConsole(t.Context(), target, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { console.Close() })
	return console
}

func TestAConsoleCarriesBothWays(t *testing.T) {
	t.Parallel()
	for name, open := range consoles {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target, port := open(t)
			c := bmc.New(bmc.Options{Interval: time.Millisecond})
			console := openConsole(t, c, target, bmc.ConsoleOptions{})
			screen := watch(console)
			boot := strings.Repeat("[    0.000000] Linux version 6.1.0 \x1b[32mOK\x1b[0m\r\n", 200)
			write(t, port, boot)
			until(t, "the boot is seen", func() bool { return len(screen.String()) >= len(boot) })
			if screen.String() != boot {
				t.Errorf("the boot came changed: %.200q", screen.String())
			}
			paste := strings.Repeat("echo provision ~. \x03\x00\xff ", 60)
			if _, err := console.Write([]byte(paste)); err != nil {
				t.Error(err)
			}
			until(t, "the paste has arrived", func() bool { return len(port.Typed()) >= len(paste) })
			if port.Typed() != paste {
				t.Errorf("the paste came changed: %.200q", port.Typed())
			}
			for range 2 { // nobody waits for the console
				if _, err := c.Power(t.Context(), target); err != nil {
					t.Error(err)
				}
			}
			if err := console.Break(); err != nil {
				t.Error(err)
			}
			if p, ok := port.(breakPort); ok {
				until(t, "the break has arrived", func() bool { return p.held.Load() == 1 })
			}
			console.Close()
			if err := screen.end(t); !errors.Is(err, io.EOF) {
				t.Errorf("a closed console ends with %v", err)
			}
			openConsole(t, c, target, bmc.ConsoleOptions{}) // it was given back
		})
	}
}

func TestAConsoleOfOursIsTakenBack(t *testing.T) {
	t.Parallel()
	for name, open := range consoles {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target, port := open(t)
			c := bmc.New(bmc.Options{Interval: time.Millisecond, Pulse: time.Second / 4})
			old := watch(openConsole(t, c, target, bmc.ConsoleOptions{}))
			screen := watch(openConsole(t, c, target, bmc.ConsoleOptions{}))
			if err := old.end(t); !errors.Is(err, bmc.ErrConsoleTaken) || fleet.CodeOf(err) != "E-SOL-TAKEN" || fleet.HintOf(err) == "" {
				t.Errorf("the first one ends with %v (%s)", err, fleet.CodeOf(err))
			}
			write(t, port, "still here")
			until(t, "the second one works", func() bool { return strings.Contains(screen.String(), "still here") })
		})
	}
}

func TestSomebodyElsesConsoleIsLeftToHim(t *testing.T) {
	t.Parallel()
	target, _, _ := startReferenceConsole(t)
	his := target
	his.Username = "other"
	watched := watch(openConsole(t, bmc.New(bmc.Options{}), his, bmc.ConsoleOptions{}))
	c := bmc.New(bmc.Options{Interval: time.Millisecond})
	_, err := c.OpenConsole(t.Context(), target, bmc.ConsoleOptions{})
	if !errors.Is(err, bmc.ErrConsoleHeld) || fleet.KindOf(err) != fleet.Conflict || fleet.CodeOf(err) != "E-SOL-HELD" {
		t.Errorf("OpenConsole = %v (%s), want %v", err, fleet.CodeOf(err), bmc.ErrConsoleHeld)
	}
	openConsole(t, c, target, bmc.ConsoleOptions{Take: true})
	if err := watched.end(t); !errors.Is(err, bmc.ErrConsoleTaken) {
		t.Errorf("his console ends with %v, want %v", err, bmc.ErrConsoleTaken)
	}
}

// setSOL sets a parameter of the console.
func setSOL(t *testing.T, b *ipmi.BMC, parameter, value byte) {
	t.Helper()
	if code := b.SOL.Config().SetParam(parameter, []byte{value}); code != types.CodeOK {
		t.Fatalf("parameter %d of the console: %v", parameter, code)
	}
}

func TestAConsoleThatIsSwitchedOffIsNamed(t *testing.T) {
	t.Parallel()
	target, b, _ := startReferenceConsole(t)
	setSOL(t, b, 1, 0)
	_, err := bmc.New(bmc.Options{}).OpenConsole(t.Context(), target, bmc.ConsoleOptions{})
	if !errors.Is(err, bmc.ErrNoConsole) || fleet.CodeOf(err) != "E-SOL-DISABLED" || fleet.HintOf(err) == "" {
		t.Errorf("OpenConsole = %v (%s), want %v", err, fleet.CodeOf(err), bmc.ErrNoConsole)
	}
}

func TestAConsoleTellsItsSpeed(t *testing.T) {
	t.Parallel()
	target, b, _ := startReferenceConsole(t)
	setSOL(t, b, 5, 8)
	if got := openConsole(t, bmc.New(bmc.Options{}), target, bmc.ConsoleOptions{}).BitRate(); got != 38400 {
		t.Errorf("BitRate = %d, want 38400", got)
	}
}

func TestAConsoleWhoseBMCDiesEnds(t *testing.T) {
	t.Parallel()
	p := bmctest.OpenSerialPort(t)
	s := bmctest.StartIPMI(t, bmctest.IPMIOptions{Serial: p})
	console := openConsole(t, bmc.New(bmc.Options{}), s.Target(), bmc.ConsoleOptions{})
	screen := watch(console)
	write(t, p, "x")
	until(t, "it works", func() bool { return screen.String() == "x" })
	s.End()
	_, _ = console.Write([]byte("anybody there?"))
	if err := screen.end(t); fleet.KindOf(err) != fleet.Unreachable {
		t.Errorf("the console ends with %v (%s)", err, fleet.KindOf(err))
	}
}

// A forger sends a datagram of somebody else's before each of the BMC's, once
// we are signed in.
type forger struct {
	net.Conn
	forged []byte
	reads  int
}

const readsOfLogin = 5 // greeting, session, RAKP 2 and 4, privilege

func (f *forger) Read(b []byte) (int, error) {
	if f.reads++; f.reads > readsOfLogin && f.reads%2 == 0 {
		return copy(b, f.forged), nil
	}
	return f.Conn.Read(b)
}

func TestForgedDatagramsAreNoEnd(t *testing.T) {
	t.Parallel()
	forged := map[string][]byte{
		"too short to decrypt":          {6, 0, 0xff, 7, 6, 0xc0, 0, 0, 0, 0, 1, 0, 0, 0, 4, 0, 1, 2, 3, 4},
		"characters, too short":         {6, 0, 0xff, 7, 6, 0xc1, 0, 0, 0, 0, 1, 0, 0, 0, 4, 0, 1, 2, 3, 4},
		"what decrypts to nothing":      append([]byte{6, 0, 0xff, 7, 6, 0xc1, 0, 0, 0, 0, 1, 0, 0, 0, 32, 0}, make([]byte, 32)...),
		"characters in clear":           {6, 0, 0xff, 7, 6, 1, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 1, 0, 0, 0, 'h', 'i'},
		"a deactivation in clear":       {6, 0, 0xff, 7, 6, 1, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, solDeactivating},
		"nothing":                       {},
		"half a header":                 {6, 0, 0xff},
		"a header without a session":    {6, 0, 0xff, 7},
		"a length that is not there":    {6, 0, 0xff, 7, 6, 0xc1, 0, 0, 0, 0, 1, 0, 0, 0, 0xff, 0xff},
		"an answer of another protocol": {6, 0, 0xff, 6, 0, 0, 0x11, 0xbe, 0x40, 0, 0, 0x10},
	}
	for name, datagram := range forged {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target, _, port := startReferenceConsole(t)
			c := bmc.New(bmc.Options{Interval: time.Millisecond, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := new(net.Dialer).DialContext(ctx, network, address)
				return &forger{Conn: conn, forged: datagram}, err
			}})
			screen := watch(openConsole(t, c, target, bmc.ConsoleOptions{}))
			write(t, port, "login: ")
			until(t, "the machine is heard", func() bool { return screen.String() == "login: " })
		})
	}
}

const solDeactivating = 1 << 4

// A loginCounter counts the logins that are tried over a connection.
type loginCounter struct {
	net.Conn
	logins *atomic.Int64
}

func (l loginCounter) Write(b []byte) (int, error) {
	const rakp1 = 0x12
	if len(b) > 5 && b[4] == 6 && b[5]&0x3f == rakp1 {
		l.logins.Add(1)
	}
	return l.Conn.Write(b)
}

func TestAnAccountIsNotLockedByAConsoleThatIsOpenedAgain(t *testing.T) {
	t.Parallel()
	target, _ := startReference(t)
	target.Password = "Wr0ngPassw0rd"
	var logins atomic.Int64
	c := bmc.New(bmc.Options{Interval: time.Millisecond, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		return loginCounter{conn, &logins}, err
	}})
	for range 5 {
		if _, err := c.OpenConsole(t.Context(), target, bmc.ConsoleOptions{}); !errors.Is(err, bmc.ErrLogin) {
			t.Fatalf("OpenConsole = %v, want %v", err, bmc.ErrLogin)
		}
		if _, err := c.Power(t.Context(), target); !errors.Is(err, bmc.ErrLogin) {
			t.Fatalf("Power = %v, want %v", err, bmc.ErrLogin)
		}
	}
	if got := logins.Load(); got != 2 {
		t.Errorf("the wrong password was tried %d times, want 2", got)
	}
}

// A BMC whose power goes by Redfish is not silent for having no IPMI.
func TestAConsoleThatIsNotThereLeavesThePowerAlone(t *testing.T) {
	t.Parallel()
	target, _ := startRedfish(t, redfish.Options{})
	target = probed(t, target)
	target.Ports.IPMI = closedPort(t)
	target.Quirks.Console = fleet.ConsoleIPMI
	c := quick()
	for range 4 {
		if _, err := c.OpenConsole(t.Context(), target, bmc.ConsoleOptions{}); !errors.Is(err, bmc.ErrClosed) {
			t.Fatalf("OpenConsole = %v, want %v", err, bmc.ErrClosed)
		}
	}
	if _, err := c.Power(t.Context(), target); err != nil {
		t.Errorf("Power = %v", err)
	}
}
