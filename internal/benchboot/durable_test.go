package main

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/rackstage/provision/api"
)

// TestMain lets the test be the load in the clients' namespace, as the program
// itself does.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "load" {
		main()
		return
	}
	os.Exit(m.Run())
}

// programEnv names the program under test; make test sets it.
const programEnv = "PROVISION_TEST_PROGRAM"

// A drill is the real program that is ill-treated, and a network to it.
type drill struct {
	*testing.T
	l     *link
	state string
	p     *process
	begin func(*drill) error // starts the program
	next  uint32             // client

	holders map[uint32]uint32 // number of the client of each address
}

func newDrill(t *testing.T, state string) *drill {
	t.Helper()
	d := newDrillWith(t, state, func(d *drill) error {
		st, err := d.l.provision(d.Context(), d.state, durableSite)
		if err == nil {
			d.p = st.process
		}
		return err
	})
	addV6(t, d.l)
	d.start()
	return d
}

// durableSite is one of both families.
const durableSite = dhcpSite + `  - name: bench6
    cidr: "fd77::/64"
    mode: full
    ranges: ["fd77::1000-fd77::ffff"]
    lease: 1h
`

// newDrillWith makes a drill whose program is started by begin, when start is
// called.
func newDrillWith(t *testing.T, state string, begin func(*drill) error) *drill {
	t.Helper()
	if testing.Short() {
		t.Skip("runs the real program for some seconds")
	}
	program := os.Getenv(programEnv)
	if program == "" {
		t.Fatalf("set %s to the program (make test does), or use -short", programEnv)
	}
	b := &bench{build: filepath.Dir(filepath.Dir(program)), dir: t.TempDir(), log: io.Discard}
	l, err := b.newLink(t.Context(), "t", dhcpServerAddr, dhcpRelayAddr)
	if err != nil {
		t.Fatal(err)
	}
	d := &drill{T: t, l: l, state: state, begin: begin, next: 1 << 20, holders: map[uint32]uint32{}}
	t.Cleanup(func() {
		if d.p != nil {
			_ = d.p.kill()
		}
		if err := l.close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func (d *drill) start() {
	d.Helper()
	d.run()
	if err := d.l.dhcpUp(d.Context(), d.p); err != nil {
		d.Fatal(err)
	}
}

// startFull starts the program on a disk without room: it offers addresses,
// and acknowledges none.
func (d *drill) startFull() {
	d.Helper()
	d.run()
	if err := poll(d.Context(), 20*time.Second, func() error {
		var offered []uint32
		a := strangersArgs{Server: dhcpServerAddr.Addr(), Relay: dhcpRelayAddr.Addr(), Wanted: []uint32{freeAddr - 1}, FirstClient: d.next}
		d.next++
		err := d.l.load(d.Context(), 10*time.Second, "strangers", a, &offered)
		if err == nil && offered[0] == 0 {
			err = errors.New("no offer")
		}
		return errors.Join(err, d.p.alive())
	}); err != nil {
		d.Fatal(err)
	}
}

func (d *drill) run() {
	d.Helper()
	if err := d.begin(d); err != nil {
		d.Fatal(err)
	}
}

// freeAddr is in the range, and so far up that nobody gets it in these tests.
const freeAddr = 10<<24 | 98<<16 | 77<<8 | 7

// load lets clients get addresses for a while, and returns those.
func (d *drill) load(long time.Duration, during func()) []uint32 {
	d.Helper()
	var r exchanged
	done := make(chan error, 1)
	a := exchangeArgs{Server: dhcpServerAddr.Addr(), Relay: dhcpRelayAddr.Addr(), InFlight: 64, For: long, FirstClient: d.next, Remember: true}
	d.next += 1 << 20
	go func() { done <- d.l.load(d.Context(), long+30*time.Second, "dhcp", a, &r) }()
	if during != nil {
		timer := time.NewTimer(long / 2)
		<-timer.C
		during()
	}
	if err := <-done; err != nil {
		d.Fatal(err)
	}
	if r.Twice > 0 {
		d.Errorf("%d addresses were given twice", r.Twice)
	}
	for i, addr := range r.Acked {
		d.holders[addr] = r.Holders[i]
	}
	return r.Acked
}

func (d *drill) api() *api.Client {
	d.Helper()
	client, err := api.NewClient(api.ClientOptions{Server: "unix:" + filepath.Join(d.state, "provision.sock")})
	if err != nil {
		d.Fatal(err)
	}
	return client
}

// nobodyElseGets sees that strangers are offered none of these addresses, and
// that they are offered what is free.
func (d *drill) nobodyElseGets(acked []uint32) {
	d.Helper()
	const most = 3000
	last := acked[max(0, len(acked)-most):]
	var offered []uint32
	a := strangersArgs{Server: dhcpServerAddr.Addr(), Relay: dhcpRelayAddr.Addr(), Wanted: append(slices.Clone(last), freeAddr), FirstClient: d.next}
	d.next += 1 << 20
	if err := d.l.load(d.Context(), 2*time.Minute, "strangers", a, &offered); err != nil {
		d.Fatal(err)
	}
	if got := offered[len(last)]; got != freeAddr {
		d.Fatalf("a stranger asked for a free address and was offered %x: this test shows nothing", got)
	}
	held := make(map[uint32]bool, len(acked))
	for _, a := range acked {
		held[a] = true
	}
	wrong := 0
	for _, a := range offered[:len(last)] {
		if held[a] {
			wrong++
		}
	}
	if wrong > 0 || len(last) == 0 {
		d.Errorf("%d of %d acknowledged addresses are offered to strangers", wrong, len(last))
	}
	d.Logf("%d leases were acknowledged, %d of them asked for by strangers", len(acked), len(last))
}

func TestAcknowledgedLeasesSurviveKill9UnderLoad(t *testing.T) {
	d := newDrill(t, t.TempDir())
	var all []uint32
	for range 3 {
		six := d.lease6()
		all = append(all, d.load(time.Second, func() {
			if err := d.p.kill(); err != nil {
				t.Fatal(err)
			}
		})...)
		d.start()
		d.nobodyElseGets(all)
		d.keeps6(six)
	}
}

// What the server has not synced is in no copy of its file system's image.
func TestAcknowledgedLeasesSurviveAPowerCut(t *testing.T) {
	if testing.Short() {
		t.Skip("mounts images")
	}
	dir := t.TempDir()
	image, at := filepath.Join(dir, "disk"), filepath.Join(dir, "state")
	command(t, "truncate", "-s", "192M", image)
	command(t, "mkfs.ext4", "-q", "-F", image)
	mountImage(t, image, at)
	d := newDrill(t, at)
	var six sixLease
	acked := d.load(2*time.Second, func() {
		six = d.lease6()
		for _, pid := range pidsOf(t, d.p) {
			if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
		}
		command(t, "cp", "--sparse=always", image, image+".cut")
	})
	if err := d.p.kill(); err != nil {
		t.Fatal(err)
	}
	d.state = filepath.Join(dir, "after")
	mountImage(t, image+".cut", d.state)
	d.start()
	d.nobodyElseGets(acked)
	d.keeps6(six)
}

func mountImage(t *testing.T, image, at string) {
	t.Helper()
	if err := os.Mkdir(at, 0o700); err != nil {
		t.Fatal(err)
	}
	command(t, "mount", "-o", "loop", image, at)
	t.Cleanup(func() { command(t, "umount", "-l", at) })
}

func pidsOf(t *testing.T, p *process) []int {
	t.Helper()
	pids, err := p.group.pids()
	if err != nil || len(pids) == 0 {
		t.Fatalf("processes %v, %v", pids, err)
	}
	return pids
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}
