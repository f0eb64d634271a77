package lab

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/bougou/go-ipmi/pkg/command/chassis"
	"github.com/bougou/go-ipmi/pkg/types"
)

func TestAMachineIsSwitchedOnThroughItsBMCAndAsksForAnAddress(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a machine")
	}
	for _, f := range []Firmware{BIOS, UEFI} {
		t.Run(string(f), func(t *testing.T) {
			r := up(t, small(f))
			m := r.Machines()[0]
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			asked := discover(ctx, t, r)
			c := login(ctx, t, r, m)
			began := time.Now()
			control(ctx, t, c, chassis.ChassisControlPowerUp)
			d := receive(ctx, t, asked)
			t.Logf("DISCOVER %s after power on, class %q", time.Since(began).Round(time.Millisecond), d.ClassIdentifier())
			if got := d.ClientHWAddr.String(); got != m.MAC {
				t.Errorf("DISCOVER came from %s, want %s", got, m.MAC)
			}
			if !powered(ctx, t, c) {
				t.Error("the BMC says that the running machine is off")
			}
			control(ctx, t, c, chassis.ChassisControlPowerDown)
			if powered(ctx, t, c) || r.Status()[0].On {
				t.Error("the machine is on after power off")
			}
		})
	}
}

func TestABootOverrideCountsOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a machine")
	}
	r := up(t, small(BIOS))
	b := r.bays[0]
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	asked := discover(ctx, t, r)
	c := login(ctx, t, r, b.Machine)
	if err := os.WriteFile(b.path(diskFile), SpeakingDisk(), 0o600); err != nil {
		t.Fatal(err)
	}
	fromDisk := func() {
		t.Helper()
		if _, err := r.WaitConsole(ctx, "n1", regexp.MustCompile(DiskSays)); err != nil {
			t.Fatal(err)
		}
	}
	fromNetwork := func() {
		t.Helper()
		receive(ctx, t, asked)
		if text, err := b.consoleText(); err != nil || strings.Contains(string(text), DiskSays) {
			t.Fatalf("the machine has booted its disk first: %q, %v", text, err)
		}
	}
	override := func() {
		t.Helper()
		if err := c.SetBootDevice(ctx, types.BootDeviceSelectorForcePXE, types.BIOSBootTypeLegacy, false); err != nil {
			t.Fatal(err)
		}
	}
	// The machine restarts by itself, as its operating system would do it.
	restart := func() {
		t.Helper()
		m, err := b.control(ctx)
		if err == nil {
			defer m.close()
			err = errors.Join(b.mark("restart"), m.do("system_reset", nil))
		}
		if err != nil {
			t.Fatal(err)
		}
	}

	control(ctx, t, c, chassis.ChassisControlPowerUp)
	fromDisk()
	control(ctx, t, c, chassis.ChassisControlPowerDown)
	override()
	control(ctx, t, c, chassis.ChassisControlPowerUp)
	fromNetwork()
	restart()
	fromDisk()
	override()
	control(ctx, t, c, chassis.ChassisControlHardReset)
	drain(asked)
	fromNetwork()
	restart()
	fromDisk()
	control(ctx, t, c, chassis.ChassisControlHardReset)
	fromDisk()
	if got := r.Status()[0].Boot; got != "" {
		t.Errorf("the override is still %q", got)
	}
}

func TestABMCTellsItsAddressAndCarriesTheConsole(t *testing.T) {
	r := up(t, small(BIOS))
	m := r.Machines()[0]
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := login(ctx, t, r, m)
	var ip types.LanConfigParam_IP
	if err := c.GetLanConfigParamFor(ctx, 1, &ip); err != nil {
		t.Fatal(err)
	}
	if got := ip.IP.String(); got != m.BMC.Address.String() {
		t.Errorf("the BMC says that its address is %s, want %s", got, m.BMC.Address)
	}
	if err := r.PowerOn(ctx, "n1"); err != nil {
		t.Fatal(err)
	}
	if got, err := r.WaitConsole(ctx, "n1", regexp.MustCompile(`SeaBIOS \(version`)); err != nil {
		t.Error(got, err)
	}
	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	if _, err := r.WaitConsole(short, "n1", regexp.MustCompile("Solaris")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for what never comes ends with %v", err)
	}
}

func TestAMisbehavingBMC(t *testing.T) {
	r := up(t, small(BIOS))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := login(ctx, t, r, r.Machines()[0])
	tests := map[string]struct {
		fault Fault
		fails bool
		slow  time.Duration
	}{
		"lies":    {Fault{Lying: true}, false, 0},
		"refuses": {Fault{Error: true}, true, 0},
		"dawdles": {Fault{Slow: 300 * time.Millisecond, Lying: true}, false, 300 * time.Millisecond},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if err := r.SetFault("n1", tt.fault); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			_, err := c.ChassisControl(ctx, chassis.ChassisControlPowerUp)
			if (err != nil) != tt.fails {
				t.Errorf("power on: %v, want an error: %t", err, tt.fails)
			}
			if took := time.Since(began); took < tt.slow {
				t.Errorf("power on took %s, want at least %s", took, tt.slow)
			}
			if r.Status()[0].On {
				t.Error("the machine is on")
			}
		})
	}
}

func TestABMCThatHangsGoesOnLater(t *testing.T) {
	m := small(BIOS)
	m.BMC.Speaks = Both
	r := up(t, m)
	m = r.Machines()[0]
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := login(ctx, t, r, m)
	web := redfishTo(t, r, m)
	if err := r.SetFault("n1", Fault{Hangs: true}); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if s, err := c.GetChassisStatus(short); err == nil {
		t.Errorf("by IPMI it answered %+v", s)
	}
	if conn, err := r.Dial(ctx, "tcp", m.BMC.Address.String()+redfishPort); err != nil {
		t.Errorf("it does not take connections: %v", err)
	} else {
		conn.Close()
	}
	if status, err := web.try(short); err == nil {
		t.Errorf("by Redfish it answered with status %d", status)
	}
	if err := r.SetFault("n1", Fault{}); err != nil {
		t.Fatal(err)
	}
	if powered(ctx, t, c) {
		t.Error("the machine is on")
	}
	if status, err := web.try(ctx); err != nil || status != http.StatusOK {
		t.Errorf("by Redfish it answers with status %d, %v", status, err)
	}
}

func TestABMCWhoseSessionsAreTakenLetsNobodyIn(t *testing.T) {
	r := up(t, small(BIOS))
	m := r.Machines()[0]
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	release, n, err := r.HoldSessions(ctx, "n1")
	if err != nil || n < 10 {
		t.Fatalf("%d sessions, %v", n, err)
	}
	t.Logf("%d sessions", n)
	try := func() error {
		c, err := r.ipmiClient(ctx, m)
		if err != nil {
			return err
		}
		if err := c.Connect(ctx); err != nil {
			return err
		}
		return c.Close(ctx)
	}
	if err := try(); err == nil {
		t.Error("one more was let in")
	}
	release()
	if err := try(); err != nil {
		t.Errorf("nobody is let in after the release: %v", err)
	}
}

func TestTheRackIsReachedFromOutside(t *testing.T) {
	r := up(t, small(BIOS))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := r.Command(ctx, "ip", "-4", "-o", "address", "show", Bridge).CombinedOutput()
	if err != nil || !strings.Contains(string(out), ServerAddress.String()) {
		t.Errorf("inside, the bridge's address is %q, %v", out, err)
	}
	var inside net.Listener
	const address = "10.77.0.1:8080"
	err = r.namespace().do(func() (err error) {
		inside, err = new(net.ListenConfig).Listen(ctx, "tcp", address)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() {
		c, err := inside.Accept()
		if err == nil {
			_, err = io.WriteString(c, "hello")
			err = errors.Join(err, c.Close())
		}
		served <- err
	}()

	outside, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(ctx)
	forwarded := make(chan error, 1)
	go func() { forwarded <- r.ForwardListener(ctx, outside, address) }()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", outside.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err = errors.Join(err, c.Close(), inside.Close(), <-served); err != nil || string(got) != "hello" {
		t.Errorf("through the forward came %q, %v", got, err)
	}
	stop()
	if err := <-forwarded; err != nil {
		t.Error(err)
	}
	if _, err := r.Dial(t.Context(), "tcp", "localhost:80"); err == nil {
		t.Error("a name was dialled, though there are none inside")
	}
}

func TestWhatACrashLeavesIsFoundLater(t *testing.T) {
	tests := map[string]func(ctx context.Context, dir, name string) error{
		"by the command that ends racks": func(ctx context.Context, dir, _ string) error { return Down(ctx, dir) },
		"by the next rack": func(ctx context.Context, dir, name string) error {
			r, err := Up(ctx, Options{Name: name, Dir: dir, Machines: []Machine{small(BIOS)}, HookCommand: testHook, Accel: TCG})
			if err != nil {
				return err
			}
			if r.Status()[0].On {
				return errors.New("a machine is on in a new rack")
			}
			return r.Down(ctx)
		},
	}
	for name, clean := range tests {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "rack")
			kill(t, exec.CommandContext(t.Context(), os.Args[0], "lab", "crash", dir, rackName()))
			t.Cleanup(func() { _ = Down(context.WithoutCancel(t.Context()), dir) })
			r, err := Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			s := r.Status()[0]
			if !s.On || !s.BMC {
				t.Fatalf("after the crash the machine is on: %t, its BMC: %t; both live on", s.On, s.BMC)
			}
			machine, _ := r.bays[0].process()
			held := 0
			for i := 0; held != 3 && i < 1000; i++ { // a process may be on its way into the namespace
				if held = len(r.namespace().holders()); held != 3 {
					<-time.After(10 * time.Millisecond)
				}
			}
			if held != 3 {
				t.Errorf("%d processes live on, want 3: machine, BMC, program", held)
			}
			if err := clean(t.Context(), dir, rackName()); err != nil {
				t.Fatal(err)
			}
			if machine.alive() {
				t.Error("the machine still runs")
			}
			gone(t, r)
			if _, err := Open(dir); !errors.Is(err, ErrNoRack) {
				t.Errorf("Open after the end: %v, want %v", err, ErrNoRack)
			}
		})
	}
}

func TestARackThatIsInUseIsLeftAlone(t *testing.T) {
	r := up(t, small(BIOS))
	_, err := Up(t.Context(), Options{Name: "other", Dir: r.Dir(), HookCommand: testHook, Accel: TCG})
	if !errors.Is(err, ErrInUse) {
		t.Errorf("Up in the same directory: %v, want %v", err, ErrInUse)
	}
	_, err = Up(t.Context(), Options{Name: rackName(), Dir: filepath.Join(t.TempDir(), "x"), HookCommand: testHook, Accel: TCG})
	if !errors.Is(err, ErrInUse) {
		t.Errorf("Up with the same name: %v, want %v", err, ErrInUse)
	}
	if !r.Status()[0].BMC {
		t.Error("the first rack has suffered")
	}
}
