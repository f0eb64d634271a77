package http

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/rackstage/provision/access"
	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

// A rackEngine is an engine that only remembers: what it was asked, and what
// a test put into it.
type rackEngine struct {
	mu      sync.Mutex
	site    fleet.Site
	nodes   []fleet.Node
	runs    []fleet.Run
	events  []fleet.Event
	seen    []fleet.Evidence
	hellos  []fleet.Hello
	polls   []fleet.Session
	reports []fleet.StepReport
	minted  int
	mintFor netip.Addr // of the last ticket
	step    *fleet.Step
	alarms  []fleet.Alarm
	subs    map[chan fleet.Event]bool
	changed chan struct{}
	panics  bool
	used    []string // consoles
	medias  map[string]fleet.MediaBoot
	listed  int // how often somebody asked for all nodes
}

func newRackEngine() *rackEngine {
	return &rackEngine{
		subs: map[chan fleet.Event]bool{}, changed: make(chan struct{}),
		site: fleet.Site{
			Stages:   []fleet.Stage{{Name: "prd"}, {Name: "dev"}},
			Profiles: []fleet.Profile{{Name: "docker", Image: "debian-12"}},
			Pools:    []fleet.Pool{{Name: "prd", Stage: "prd", Profile: "docker", Cluster: fleet.Swarm, Managers: 1}},
		},
		nodes: []fleet.Node{
			{ID: "n-0000000001", Name: "prd-1", MAC: "52:54:00:00:00:01", MACs: []fleet.MAC{"52:54:00:00:00:01"}, State: fleet.Active, Pool: "prd", Stage: "prd", Role: fleet.Manager, Approved: true, Revision: 1},
			{ID: "n-0000000002", MAC: "52:54:00:00:00:02", State: fleet.Discovered, Revision: 1},
		},
	}
}

func (e *rackEngine) NodeByMAC(mac fleet.MAC) (fleet.Node, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, n := range e.nodes {
		if n.MAC == mac || slices.Contains(n.MACs, mac) {
			return n, true
		}
	}
	return fleet.Node{}, false
}

func (e *rackEngine) Observe(ev fleet.Evidence) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seen = append(e.seen, ev)
}

func (e *rackEngine) MintHello(_ context.Context, _ fleet.MAC, addr netip.Addr) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.minted++
	e.mintFor = addr
	secret, _ := fleet.NewSecret()
	return secret, nil
}

func (e *rackEngine) Hello(_ context.Context, h fleet.Hello) (fleet.Node, error) {
	if h.Ticket != "good" {
		return fleet.Node{}, &fleet.Error{Kind: fleet.Denied, Code: "E-TICKET", Op: "redeem ticket", Hint: "boot the machine again", Err: errors.New("it is unknown or has expired")}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.hellos = append(e.hellos, h)
	return e.nodes[0], nil
}

func (e *rackEngine) Poll(ctx context.Context, s fleet.Session, r *fleet.StepReport) (*fleet.Step, error) {
	e.mu.Lock()
	e.polls = append(e.polls, s)
	if r != nil {
		e.reports = append(e.reports, *r)
	}
	step := e.step
	e.mu.Unlock()
	if step != nil {
		return step, nil
	}
	<-ctx.Done()
	return nil, nil
}

func (e *rackEngine) RedeemJoin(_ context.Context, _ fleet.NodeID, secret string) (fleet.JoinOrder, error) {
	if secret != "good" {
		return fleet.JoinOrder{}, &fleet.Error{Kind: fleet.Denied, Code: "E-TICKET", Err: errors.New("it is unknown or has expired")}
	}
	return fleet.JoinOrder{Token: "SWMTKN-1-secret", Managers: []string{"10.77.0.11:2377"}, Advertise: "10.77.0.12"}, nil
}

func (e *rackEngine) ConsoleUsed(_ context.Context, actor string, node fleet.NodeID, what string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.used = append(e.used, actor+" "+string(node)+" "+what)
	return nil
}

func (e *rackEngine) Refresh(context.Context, fleet.NodeID, fleet.Inventory) error { return nil }

func (e *rackEngine) MayCertify(context.Context, fleet.NodeID) (fleet.StageName, error) {
	return "prd", nil
}

func (e *rackEngine) Nodes() []fleet.Node {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.panics {
		panic("the rack is on fire")
	}
	e.listed++
	return slices.Clone(e.nodes)
}

func (e *rackEngine) Node(ref string) (fleet.Node, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, n := range e.nodes {
		if string(n.ID) == ref || (n.Name != "" && n.Name == ref) || string(n.MAC) == ref {
			return n, nil
		}
	}
	return fleet.Node{}, &fleet.Error{Kind: fleet.NotFound, Code: "E-NODE-UNKNOWN", Hint: "see: provision nodes list", Err: fmt.Errorf("no node %q", ref)}
}

func (e *rackEngine) Approve(_ context.Context, actor, ref string) (fleet.Node, error) {
	n, err := e.Node(ref)
	if err != nil {
		return n, err
	}
	n.State, n.Approved = fleet.Ready, true
	e.put(n, fleet.Event{Type: fleet.EventAccess, Node: n.ID, Actor: actor, Text: "approved"})
	return n, nil
}

func (e *rackEngine) RescueOnce(_ context.Context, mac fleet.MAC) bool {
	n, known := e.NodeByMAC(mac)
	if known && n.State == fleet.Ready {
		n.State, n.Rescue = fleet.Rescue, fleet.Stay{From: n.State, Once: true}
		e.put(n, fleet.Event{Type: fleet.EventChanged, Node: n.ID})
	}
	return n.MayRescueItself()
}

func (e *rackEngine) EndRescueOnce(ctx context.Context, mac fleet.MAC) {
	if n, _ := e.NodeByMAC(mac); n.Rescue.Once {
		_, _ = e.EndRescue(ctx, "", string(n.ID), false)
	}
}

func (e *rackEngine) Rescue(_ context.Context, actor, ref string, _ bool) (fleet.Node, error) {
	n, err := e.Node(ref)
	if err != nil {
		return n, err
	}
	n.State, n.Rescue = fleet.Rescue, fleet.Stay{From: n.State}
	e.put(n, fleet.Event{Type: fleet.EventChanged, Node: n.ID, Actor: actor, Text: "rescue"})
	return n, nil
}

func (e *rackEngine) EndRescue(_ context.Context, actor, ref string, _ bool) (fleet.Node, error) {
	n, err := e.Node(ref)
	if err != nil {
		return n, err
	}
	n.State, n.Rescue = n.Rescue.From, fleet.Stay{}
	e.put(n, fleet.Event{Type: fleet.EventChanged, Node: n.ID, Actor: actor, Text: "rescue ended"})
	return n, nil
}

func (e *rackEngine) PowerDone(_ context.Context, _, ref string) (fleet.Node, error) {
	return e.Node(ref)
}

func (e *rackEngine) ProbeBMC(_ context.Context, _, ref, _ string) (fleet.Node, error) {
	return e.Node(ref)
}

func (e *rackEngine) RotateBMC(_ context.Context, _, ref string) (fleet.Node, error) {
	return e.Node(ref)
}

func (e *rackEngine) CheckBMC(_ context.Context, _, ref string, power bool) (fleet.BMCCheck, error) {
	n, err := e.Node(ref)
	return fleet.BMCCheck{Node: n.ID, Running: true, Power: power}, err
}

func (e *rackEngine) BMCCheck(_ context.Context, ref string) (fleet.BMCCheck, error) {
	n, err := e.Node(ref)
	return fleet.BMCCheck{
		Node: n.ID, Driver: fleet.DriverRedfish, Model: fleet.BMCModel{Vendor: "Contoso", Product: "BMC 3000", Firmware: "1.7"},
		Results: []fleet.BMCResult{
			{Check: "sign in", Grade: fleet.BMCOK, Detail: "as admin", Took: 1500 * time.Millisecond},
			{Check: "boot device", Grade: fleet.BMCWarning, Detail: "once is shown as always", Fix: "nothing: keep its profile"},
		},
		Quirks: fleet.BMCQuirks{OnceIsForEver: true},
	}, err
}

func (e *rackEngine) BIOS(_ context.Context, ref string) (fleet.Node, fleet.BIOS, []fleet.BIOSChange, error) {
	n, err := e.Node(ref)
	b := fleet.BIOS{Attributes: map[string]string{"BootMode": "Bios"}}
	return n, b, b.Diff(map[string]string{"BootMode": "Uefi"}), err
}

func (e *rackEngine) ApplyBIOS(ctx context.Context, _, ref string, force bool) (fleet.Node, []fleet.BIOSChange, error) {
	n, _, changes, err := e.BIOS(ctx, ref)
	if err == nil && !force {
		err = n.CheckIdle("change BIOS settings", "--force")
	}
	return n, changes, err
}

func (e *rackEngine) Firmware(ref string) (fleet.Node, []fleet.FirmwareUpdate, error) {
	n, err := e.Node(ref)
	return n, []fleet.FirmwareUpdate{{FirmwareChange: fleet.FirmwareChange{Component: "BIOS", Is: "1.0", Want: "2.1"}, State: fleet.FirmwareDiffers}}, err
}

func (e *rackEngine) UpdateFirmware(_ context.Context, _, ref string, o fleet.UpdateOptions) (fleet.Node, []fleet.FirmwareUpdate, error) {
	n, all, err := e.Firmware(ref)
	if err == nil && o.Restart && !o.Force {
		err = n.CheckIdle("update firmware", "--force")
	}
	return n, all, err
}

func (e *rackEngine) Checkup(ref string) (fleet.Node, fleet.Checkup, error) {
	n, err := e.Node(ref)
	return n, fleet.Checkup{
		Node: n.ID, Health: fleet.HealthCritical, Watts: 187,
		Hardware: fleet.Hardware{Model: "Rack 1U<script>", Firmware: []fleet.Firmware{{ID: "BIOS", Version: "1.0"}}},
		Sensors:  []fleet.Sensor{{Name: "Inlet", Kind: "temperature", Value: 23, Unit: "°C", Health: fleet.HealthOK}},
		Faults:   []fleet.Fault{{Part: "Fan1", Health: fleet.HealthCritical, Detail: "stopped"}},
		Log:      fleet.EventLog{Total: 1, Entries: []fleet.LogEntry{{ID: "1", Health: fleet.HealthCritical, Text: "fan stopped", New: true}}},
	}, err
}

func (e *rackEngine) Examine(_ context.Context, ref string) (fleet.Node, fleet.Checkup, error) {
	return e.Checkup(ref)
}

func (e *rackEngine) ClearBMCLog(_ context.Context, _, ref string) (fleet.Node, fleet.Checkup, error) {
	n, c, err := e.Checkup(ref)
	c.Log = fleet.EventLog{}
	return n, c, err
}

func (e *rackEngine) AcceptPin(_ context.Context, _, ref, pin string) (fleet.Node, error) {
	n, err := e.Node(ref)
	if err == nil {
		n.BMC.Pin, n.BMC.NewPin = pin, ""
		e.put(n, fleet.Event{})
	}
	return n, err
}

func (e *rackEngine) Power(_ context.Context, _, ref string, o fleet.PowerOrder) (fleet.PowerState, error) {
	if _, err := e.Node(ref); err != nil {
		return "", err
	}
	if o.Op == fleet.PowerOn {
		return "", &fleet.Error{
			Kind: fleet.Unreachable, Code: "E-BMC-TIMEOUT", Op: "power on", On: "node " + ref, Err: errors.New("no answer from 10.77.1.11"),
			Hint: "check the BMC's address and cable",
		}
	}
	return fleet.PowerIsOff, nil
}

func (e *rackEngine) Plan(context.Context, fleet.PoolName) (fleet.Plan, error) {
	return fleet.Plan{Pool: "prd", Items: []fleet.PlanItem{
		{Node: "n-0000000001", Title: "prd-1", Name: "prd-1", Class: fleet.Keep, Role: fleet.Manager, Reason: "active and as declared"},
		{Node: "n-0000000002", Title: "52:54:00:00:00:02", Name: "prd-2", Class: fleet.Add, Role: fleet.Worker, Reason: "approved and blank", Disk: "S1"},
	}}, nil
}

func (e *rackEngine) Start(_ context.Context, actor string, pool fleet.PoolName, o fleet.StartOptions) (fleet.Run, error) {
	if o.Plan == "stale" {
		return fleet.Run{}, &fleet.Error{Kind: fleet.Conflict, Code: "E-PLAN-STALE", Op: "start run", On: "pool prd", Hint: "look at the new plan", Err: errors.New("the world has changed since the plan was made")}
	}
	return fleet.Run{ID: "prd-1", Pool: pool, Plan: o.Plan, Key: o.Key, Actor: actor, State: fleet.RunRunning, Started: time.Unix(1_800_000_000, 0).UTC()}, nil
}

func (e *rackEngine) GetRun(id fleet.RunID) (fleet.Run, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, r := range e.runs {
		if r.ID == id {
			return r, nil
		}
	}
	return fleet.Run{}, &fleet.Error{Kind: fleet.NotFound, Code: "E-RUN-UNKNOWN", Err: fmt.Errorf("no run %q", id)}
}

func (e *rackEngine) Runs() []fleet.Run {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.runs)
}

func (e *rackEngine) Site() fleet.Site { return e.site }

func (e *rackEngine) Apply(_ context.Context, _ string, site fleet.Site, _ bool) ([]string, error) {
	return []string{fmt.Sprintf("+ %d pools", len(site.Pools))}, nil
}

func (e *rackEngine) Events(_ context.Context, since int64, limit int) ([]fleet.Event, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []fleet.Event
	for _, ev := range e.events {
		if ev.Seq > since && len(out) < limit {
			out = append(out, ev)
		}
	}
	return out, nil
}

func (e *rackEngine) Alarms() []fleet.Alarm {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.alarms)
}

func (e *rackEngine) LastEvent() int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.events) == 0 {
		return 0
	}
	return e.events[len(e.events)-1].Seq
}

func (e *rackEngine) Subscribe() (<-chan fleet.Event, func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	ch := make(chan fleet.Event, 64)
	e.subs[ch] = true
	return ch, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.subs, ch)
	}
}

func (e *rackEngine) Changed() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.changed
}

// put changes a node and tells everybody.
func (e *rackEngine) put(n fleet.Node, ev fleet.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	n.Revision++
	for i := range e.nodes {
		if e.nodes[i].ID == n.ID {
			e.nodes[i] = n
		}
	}
	e.tell(ev)
}

// putRun changes a run and tells everybody.
func (e *rackEngine) putRun(r fleet.Run) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.runs = slices.DeleteFunc(e.runs, func(o fleet.Run) bool { return o.ID == r.ID })
	e.runs = append([]fleet.Run{r}, e.runs...)
	e.tell(fleet.Event{Type: fleet.EventRun, Run: r.ID, Pool: r.Pool, Text: "run " + string(r.State)})
}

// add appends an event and tells everybody.
func (e *rackEngine) add(ev fleet.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tell(ev)
}

func (e *rackEngine) tell(ev fleet.Event) {
	if ev.Type != fleet.EventProgress {
		ev.Seq = 1
		if len(e.events) > 0 {
			ev.Seq = e.events[len(e.events)-1].Seq + 1
		}
		e.events = append(e.events, ev)
	}
	for ch := range e.subs {
		ch <- ev
	}
	close(e.changed)
	e.changed = make(chan struct{})
}

func (e *rackEngine) evidence() []fleet.Evidence {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.seen)
}

// desk knows three people by the tokens "viewer", "operator" and "admin";
// their passwords are their names.
type desk struct{}

func (d desk) SignIn(ctx context.Context, user, password string, _ netip.Addr) (string, time.Time, error) {
	if user == "limited" {
		return "", time.Time{}, &fleet.Error{Kind: fleet.Denied, Code: "E-LOGIN-LIMIT", Op: "sign in", Hint: "wait 60 seconds", Err: errors.New("too many failed attempts")}
	}
	if _, err := d.Identify(ctx, user); err != nil || user != password {
		return "", time.Time{}, &fleet.Error{Kind: fleet.Denied, Code: "E-LOGIN", Op: "sign in", Err: errors.New("wrong user name or password")}
	}
	return user, time.Unix(2_000_000_000, 0), nil
}

func (desk) Identify(_ context.Context, token string) (access.Identity, error) {
	switch token {
	case "viewer", "operator", "admin":
		return access.Identity{User: token, Role: access.Role(token)}, nil
	case "demo":
		return access.Identity{User: "demo", Role: access.Admin, Demo: true}, nil
	}
	return access.Identity{}, &fleet.Error{Kind: fleet.Denied, Code: "E-LOGIN", Err: errors.New("not signed in")}
}

func (desk) SignOut(context.Context, string) error { return nil }

// shelf holds one image.
type shelf struct{ chunks string }

func (shelf) List() ([]api.Image, error) {
	return []api.Image{{Name: "debian-12", Digest: "sha256:aa", Size: 1 << 30}}, nil
}

func (shelf) Index(name string) (api.ImageIndex, error) {
	if name != "debian-12" {
		return api.ImageIndex{}, &fleet.Error{Kind: fleet.NotFound, Code: "E-IMAGE-UNKNOWN", Err: fmt.Errorf("no image %q", name)}
	}
	return api.ImageIndex{Name: name, Digest: "sha256:aa", Size: 4, Chunks: []api.Chunk{{ID: "ab", Size: 4}}}, nil
}

func (s shelf) ChunkPath(id string) string { return s.chunks + "/" + id }

// leaseBook knows who holds which address.
type leaseBook map[netip.Addr]fleet.MAC

func (l leaseBook) LeaseByAddr(addr netip.Addr) (fleet.Lease, bool) {
	mac, ok := l[addr]
	return fleet.Lease{Addr: addr, MAC: mac}, ok
}

// TenantAt knows of no other server.
func (leaseBook) TenantAt(netip.Addr) (fleet.MAC, bool) { return "", false }

// noAuthority recognises nobody; tests of mutual TLS use the real one.
type noAuthority struct{}

func (noAuthority) SignBoot([]byte, fleet.NodeID) ([]byte, error) { return []byte("certificate"), nil }

func (noAuthority) SignStage([]byte, fleet.NodeID, fleet.StageName) ([]byte, error) {
	return []byte("certificate"), nil
}

func (noAuthority) Identify([]*x509.Certificate) (fleet.NodeID, fleet.StageName, error) {
	return "", "", errors.New("a stranger")
}

func (noAuthority) CAPEM() []byte {
	return []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
}

func (e *rackEngine) OpenMedia(secret string) (fleet.MediaBoot, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if m, ok := e.medias[secret]; ok {
		return m, nil
	}
	return fleet.MediaBoot{}, &fleet.Error{Kind: fleet.Denied, Code: "E-TICKET", Err: errors.New("it is unknown or has expired")}
}
