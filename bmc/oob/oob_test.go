package oob

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab/redfish"
)

// A desk is an engine that remembers what it was told, and the leases.
type desk struct {
	mu      sync.Mutex
	site    fleet.Site
	leases  []fleet.Lease
	nodes   []fleet.Node
	adopted []fleet.FoundBMC
	moved   []string
	taken   []string
	alarms  map[string]string
	refuses error
}

func (d *desk) Site() fleet.Site {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.site
}

func (d *desk) Leases(subnet string, _ netip.Addr, _ int) []fleet.Lease {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(d.leases), func(l fleet.Lease) bool { return l.Subnet != subnet })
}

func (d *desk) NodeByBMC(mac fleet.MAC) (fleet.Node, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range d.nodes {
		if n.Inventory.BMC.MAC == mac {
			return n, true
		}
	}
	return fleet.Node{}, false
}

func (d *desk) MoveBMC(_ context.Context, id fleet.NodeID, addr string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.moved = append(d.moved, string(id)+" "+addr)
	return nil
}

func (d *desk) AdoptBMC(_ context.Context, f fleet.FoundBMC) (fleet.Node, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.adopted = append(d.adopted, f)
	return fleet.Node{}, d.refuses
}

func (d *desk) TakeOverBMC(_ context.Context, id fleet.NodeID) (fleet.Node, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.taken = append(d.taken, string(id))
	return fleet.Node{}, nil
}

// BeginBMC gives passwords of two shapes.
func (d *desk) BeginBMC(_ context.Context, mac fleet.MAC, user string, shape int) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if shape > 1 {
		return "", nil
	}
	a := fleet.FactoryAccount{MACPrefix: string(mac), Username: user, SealedPassword: []string{"begun", "begun otherwise"}[shape]}
	d.site.Begun = []fleet.FactoryAccount{a}
	return a.SealedPassword, nil
}

func (d *desk) Raise(code, on, detail string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.alarms[code+" "+on] = detail
}

func (d *desk) Clear(code, on string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.alarms, code+" "+on)
}

const bmcMAC = "aa:bb:cc:00:00:01"

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// watch makes a watcher of one lease: that of a BMC which listens at host and
// port.
func watch(host, port string) (*Watcher, *desk) {
	d := &desk{
		alarms: map[string]string{},
		site: fleet.Site{
			Subnets: []fleet.Subnet{{Name: "bmcs", OOB: true}, {Name: "machines"}},
			Factory: []fleet.FactoryAccount{
				{Vendor: "Acme", Username: "acme", SealedPassword: "of another vendor"},
				{Vendor: "contoso", MACPrefix: "AA:BB:CC", Serial: "sn-1", Username: "admin", SealedPassword: "sealed"},
			},
		},
		leases: []fleet.Lease{
			{Addr: netip.MustParseAddr(host), Subnet: "bmcs", MAC: bmcMAC, Hostname: "bmc-SN-1", State: fleet.LeaseBound, Expires: start.Add(1000 * time.Hour)},
			{Addr: netip.MustParseAddr("127.0.0.9"), Subnet: "machines", MAC: "52:54:00:00:00:09", State: fleet.LeaseBound, Expires: start.Add(1000 * time.Hour)},
		},
	}
	number, _ := net.LookupPort("tcp", port) // it is one
	w := &Watcher{
		Leases: d, Engine: d, Log: slog.New(slog.DiscardHandler), Ports: fleet.BMCPorts{HTTPS: number, IPMI: 9},
		BMCs: bmc.New(bmc.Options{Interval: time.Millisecond, Timeout: 3 * time.Second}),
		Open: func(sealed string) (bmc.Password, error) {
			password, ok := map[string]bmc.Password{"sealed": "Secret123Secret1", "begun": "Begun123Begun123", "begun otherwise": "Begun-23Begun-23"}[sealed]
			if !ok {
				return "", errors.New("not for this BMC")
			}
			return password, nil
		},
	}
	return w, d
}

func serve(t *testing.T, o redfish.Options) (*Watcher, *desk, *redfish.Service) {
	t.Helper()
	o.Systems = []redfish.System{{Facts: redfish.Facts{
		UUID: "11111111-0000-4000-8000-000000000001", Serial: "C0FFEE", Vendor: "Contoso", Model: "R1",
		NICs: []redfish.NIC{{ID: "NIC.1", MAC: "52:54:00:77:00:01", Link: true}},
	}}}
	s, err := redfish.Listen(t.Context(), "127.0.0.1:0", redfish.New(o))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	host, port, err := net.SplitHostPort(s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	w, d := watch(host, port)
	return w, d, s.Service
}

// look has a watcher look once, and waits until it has visited everybody.
func look(t *testing.T, w *Watcher, at time.Time) {
	t.Helper()
	w.round(t.Context(), at)
	w.visits.Wait()
}

func TestABMCThatGetsAnAddressIsTakenIn(t *testing.T) {
	w, d, _ := serve(t, redfish.Options{})
	look(t, w, start)
	if len(d.adopted) != 1 || len(d.alarms) > 0 {
		t.Fatalf("adopted %+v, alarms %v, want one BMC", d.adopted, d.alarms)
	}
	f := d.adopted[0]
	if f.MAC != bmcMAC || f.UUID != "11111111-0000-4000-8000-000000000001" || f.Serial != "C0FFEE" || f.Arch != "amd64" || !slices.Contains(f.MACs, "52:54:00:77:00:01") {
		t.Errorf("it says of its machine %+v", f)
	}
	b := f.BMC
	if b.Driver != fleet.DriverRedfish || b.Address != "127.0.0.1" || b.Username != "admin" || b.SealedPassword != "sealed" || len(b.Pin) != 64 || b.Own {
		t.Errorf("it is signed in to as %+v", b)
	}
	look(t, w, start.Add(15*time.Second))
	if len(d.adopted) != 1 {
		t.Error("it is not left alone after that")
	}
}

func TestNobodyIsLockedOut(t *testing.T) {
	w, d, s := serve(t, redfish.Options{Password: "Changed123"})
	for i := range 100 { // a day
		look(t, w, start.Add(time.Duration(i)*15*time.Minute))
	}
	if n := s.Counts().Refused; n != 1 {
		t.Errorf("it was asked to let us in %d times, want once", n)
	}
	if why := d.alarms["E-BMC-STRANGER BMC "+bmcMAC+" at 127.0.0.1"]; !strings.Contains(why, "none of bmc_accounts") {
		t.Errorf("alarms are %v", d.alarms)
	}
	d.site.Factory = append(d.site.Factory, fleet.FactoryAccount{Username: "root", SealedPassword: "sealed"})
	look(t, w, start.Add(48*time.Hour))
	if n := s.Counts().Refused; n != 2 {
		t.Errorf("an account that is new was tried: %d logins refused, want 2", n)
	}
	d.leases = nil
	look(t, w, start.Add(49*time.Hour))
	if len(d.alarms) > 0 {
		t.Errorf("it is gone, and alarms are %v", d.alarms)
	}
}

func TestABMCThatNoAccountFitsIsAnAlarm(t *testing.T) {
	tests := map[string]func(d *desk){
		"of another vendor":   func(d *desk) { d.site.Factory = d.site.Factory[:1] },
		"of another MAC":      func(d *desk) { d.site.Factory[1].MACPrefix = "aa:bb:dd" },
		"of another serial":   func(d *desk) { d.site.Factory[1].Serial = "SN-2" },
		"with no list at all": func(d *desk) { d.site.Factory = nil },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			w, d, s := serve(t, redfish.Options{})
			change(d)
			look(t, w, start)
			if len(d.alarms) != 1 || len(d.adopted) > 0 || s.Counts().Logins+s.Counts().Refused > 0 {
				t.Errorf("alarms %v, adopted %v, %+v", d.alarms, d.adopted, s.Counts())
			}
		})
	}
}

func TestWhoIsNoBMCIsLeftAlone(t *testing.T) {
	closed := freePort(t)
	w, d := watch("127.0.0.1", closed)
	look(t, w, start)
	if len(d.alarms) > 0 || len(d.adopted) > 0 {
		t.Errorf("alarms %v, adopted %v", d.alarms, d.adopted)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func TestAKnownBMCIsFollowedAndNotSignedInTo(t *testing.T) {
	node := fleet.Node{ID: "n-1", Inventory: fleet.Inventory{BMC: fleet.InventoryBMC{MAC: bmcMAC}}}
	tests := map[string]struct {
		bmc   fleet.BMC
		moved int
		taken int
	}{
		"at its address":                    {fleet.BMC{Own: true, Address: "127.0.0.1", SealedPassword: "x"}, 0, 0},
		"at another":                        {fleet.BMC{Own: true, Address: "127.0.0.2", SealedPassword: "x"}, 1, 0},
		"still with what it came with":      {fleet.BMC{Address: "127.0.0.1", SealedPassword: "x"}.WithFinding(fleet.CodeBMCFactory, ""), 0, 1},
		"ours, beside what it came with":    {fleet.BMC{Own: true, Factory: "root", Address: "127.0.0.1", SealedPassword: "x"}, 0, 1},
		"with an account of site.yaml":      {fleet.BMC{Address: "127.0.0.1", SealedPassword: "x"}, 0, 0},
		"with an account, at a new address": {fleet.BMC{Address: "127.0.0.2", SealedPassword: "x"}, 1, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w, d := watch("127.0.0.1", "1")
			n := node
			n.BMC = tt.bmc
			d.nodes = []fleet.Node{n}
			look(t, w, start)
			if len(d.moved) != tt.moved || len(d.taken) != tt.taken || len(d.alarms) > 0 {
				t.Errorf("moved %v, taken over %v, alarms %v", d.moved, d.taken, d.alarms)
			}
		})
	}
}

func TestAHostileBMCIsAnAlarmAtMost(t *testing.T) {
	for _, garbage := range redfish.AllGarbage() {
		t.Run(string(garbage), func(t *testing.T) {
			t.Parallel()
			w, d, _ := serve(t, redfish.Options{Faults: redfish.Faults{Garbage: garbage}})
			look(t, w, start)
			if len(d.adopted) > 0 {
				t.Errorf("it was taken in: %+v", d.adopted)
			}
		})
	}
}

func TestABMCThatLiesAboutItsMachineIsAnAlarm(t *testing.T) {
	w, d, _ := serve(t, redfish.Options{})
	d.refuses = errors.New("it says that it is in another machine")
	look(t, w, start)
	if len(d.alarms) != 1 {
		t.Errorf("alarms are %v", d.alarms)
	}
	d.refuses = nil
	look(t, w, start.Add(time.Hour))
	if len(d.alarms) > 0 || len(d.adopted) != 2 {
		t.Errorf("after it was mended: alarms %v, adopted %d times", d.alarms, len(d.adopted))
	}
}

// Some BMCs do nothing, and say nothing of their machine, before the password
// that they came with is another.
func TestABMCWhosePasswordHasToBeChangedFirstIsTakenIn(t *testing.T) {
	tests := map[string]struct {
		options redfish.Options
		sealed  string
	}{
		"which says where":                    {redfish.Options{}, "begun"},
		"which does not say where":            {redfish.Options{Faults: redfish.Faults{QuietChange: true}}, "begun"},
		"which gives no session before":       {redfish.Options{Faults: redfish.Faults{ShutOut: true}}, "begun"},
		"which wants an ETag":                 {redfish.Options{Faults: redfish.Faults{NeedsETag: true, ShutOut: true}}, "begun"},
		"which has its ETags elsewhere":       {redfish.Options{Faults: redfish.Faults{NeedsETag: true, BodyETag: true}}, "begun"},
		"which has no Basic authentication":   {redfish.Options{Faults: redfish.Faults{NoBasic: true}}, "begun"},
		"which takes passwords with specials": {redfish.Options{Policy: redfish.Policy{Special: true}}, "begun otherwise"},
		"which takes none of our passwords":   {redfish.Options{Policy: redfish.Policy{Min: 17}}, ""},
		"which says yes and does nothing":     {redfish.Options{Faults: redfish.Faults{LyingPassword: true}}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.options.Expired = true
			w, d, _ := serve(t, tt.options)
			look(t, w, start)
			if tt.sealed == "" {
				if len(d.adopted) > 0 || len(d.alarms) != 1 {
					t.Fatalf("adopted %+v, alarms %v, want an alarm", d.adopted, d.alarms)
				}
				return
			}
			if len(d.adopted) != 1 || len(d.alarms) > 0 {
				t.Fatalf("adopted %+v, alarms %v, want one BMC", d.adopted, d.alarms)
			}
			if f := d.adopted[0]; f.Serial != "C0FFEE" || f.BMC.Username != "admin" || f.BMC.SealedPassword != tt.sealed {
				t.Errorf("it was adopted as %+v, want with the password that it got", f)
			}
			// A server that was killed before it adopted the BMC finds in again.
			w.seen, d.adopted = nil, nil
			look(t, w, start.Add(time.Hour))
			if len(d.adopted) != 1 || d.adopted[0].BMC.SealedPassword != tt.sealed {
				t.Errorf("met again it was adopted as %+v, alarms %v", d.adopted, d.alarms)
			}
		})
	}
}

// restarting is a BMC whose web server restarts with a new password.
type restarting struct {
	BMCs
	changed, back bool
}

func (r *restarting) ChangePassword(ctx context.Context, t bmc.Target, next bmc.Password) error {
	err := r.BMCs.ChangePassword(ctx, t, next)
	r.changed = r.changed || err == nil
	return err
}

func (r *restarting) Probe(ctx context.Context, t bmc.Target) (bmc.Found, error) {
	if r.changed && !r.back {
		r.back = true
		return bmc.Found{}, bmc.ErrNoAnswer
	}
	return r.BMCs.Probe(ctx, t)
}

func TestAPasswordThatWasRefusedBeforeItWasGivenIsTriedAgain(t *testing.T) {
	for name, begun := range map[string][]fleet.FactoryAccount{
		"by a server that goes on":    nil,
		"by one that was killed once": {{MACPrefix: bmcMAC, Username: "admin", SealedPassword: "begun"}},
	} {
		t.Run(name, func(t *testing.T) {
			w, d, s := serve(t, redfish.Options{Expired: true})
			d.site.Begun = begun
			w.BMCs = &restarting{BMCs: w.BMCs}
			for i := range 3 {
				look(t, w, start.Add(time.Duration(i)*time.Hour))
			}
			if len(d.adopted) == 0 || d.adopted[0].BMC.SealedPassword != "begun" || len(d.alarms) > 0 || s.Counts().Refused > mostLogins {
				t.Errorf("adopted as %+v, alarms %v, %d logins refused; want it with the password that it got", d.adopted, d.alarms, s.Counts().Refused)
			}
		})
	}
}
