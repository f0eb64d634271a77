package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rackstage/provision/fleet"
)

// errPulled is what a store says whose server was killed.
var errPulled = errors.New("the plug was pulled")

// A memoryStore keeps the world as JSON, as it would be on disk, and can be
// told to pull the plug: from its nth save on nothing is stored any more.
type memoryStore struct {
	mu     sync.Mutex
	world  fleet.World
	saves  int
	pull   int                        // 0: never
	dieAt  func(n fleet.RunNode) bool // pull the plug once this is stored
	dead   bool
	events []fleet.Event
	onCut  func()
}

func (s *memoryStore) Load(context.Context) (fleet.World, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	raw, err := json.Marshal(s.world)
	if err != nil {
		return fleet.World{}, err
	}
	var w fleet.World
	return w, json.Unmarshal(raw, &w)
}

func (s *memoryStore) Events(context.Context, int64, int) ([]fleet.Event, error) { return nil, nil }

func (s *memoryStore) Save(_ context.Context, c fleet.Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saves++
	if s.pull > 0 && s.saves >= s.pull {
		if s.saves == s.pull {
			s.onCut()
		}
		return errPulled
	}
	if s.dead {
		return errPulled
	}
	if c.Site != nil {
		s.world.Site = *c.Site
	}
	for _, n := range c.Nodes {
		s.world.Nodes = put(s.world.Nodes, n, func(o fleet.Node) bool { return o.ID == n.ID })
	}
	for _, r := range c.Runs {
		s.world.Runs = put(s.world.Runs, r, func(o fleet.Run) bool { return o.ID == r.ID })
	}
	for _, t := range c.Tickets {
		s.world.Tickets = put(s.world.Tickets, t, func(o fleet.Ticket) bool { return o.Hash == t.Hash })
	}
	s.world.LastSeq += int64(len(c.Events))
	s.events = append(s.events, c.Events...)
	if s.dieAt != nil {
		for _, r := range c.Runs {
			if slices.ContainsFunc(r.Nodes, s.dieAt) {
				s.dead = true
				s.onCut()
			}
		}
	}
	return nil
}

// cutAt pulls the plug at a save from now on, waits until that has come or a run
// is over, and ends the server. It returns how many saves there were before.
func (s *memoryStore) cutAt(cut int, kill func()) (before int) {
	died := make(chan struct{})
	s.mu.Lock()
	before = s.saves
	s.onCut, s.pull = func() { close(died) }, before+cut
	s.mu.Unlock()
	select {
	case <-died:
	case <-time.After(2 * time.Hour): // the run had fewer saves this time
	}
	s.mend(kill)
	return before
}

// mend ends the server whose plug was pulled, and plugs it in for the next one.
func (s *memoryStore) mend(kill func()) {
	kill()
	time.Sleep(7 * time.Second) //nolint:forbidigo // fake time: who called the dead server gives up
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pull = 0
}

func put[T any](list []T, v T, same func(T) bool) []T {
	if i := slices.IndexFunc(list, same); i >= 0 {
		list[i] = v
		return list
	}
	return append(list, v)
}

// A machine is a simulated node with its agent, which calls whichever server
// is up.
type machine struct {
	rack     *rack
	mac      fleet.MAC
	node     fleet.NodeID
	onDisk   bool // has a system
	pxeNext  bool
	needsOff bool          // to be told what to boot
	url      string        // that it was told to boot from
	disc     string        // URL of what is in its virtual CD drive
	stuck    bool          // its drive, which nothing can be taken out of
	mute     bool          // its BMC takes a CD, and the answer is lost
	deaf     bool          // to what its BMC shows it: it never boots a CD
	stops    []fleet.Phase // its next boots come so far and to a stand; power: it asks for nothing
	post     time.Duration // its firmware tests itself before it asks for anything; 0: 10 s
	boots    int
	wiped    int
	written  int
	cancel   context.CancelFunc
	swarm    string                      // ID of the cluster that it is in; "" for none
	done     map[string]fleet.StepReport // what the running agent has done
	diskSize int64
	holds    string // what is found on its disk
}

// A rack is some machines and the swarm that they form.
type rack struct {
	t        *testing.T
	mu       sync.Mutex
	ctx      context.Context
	store    *memoryStore
	server   *Engine // nil while it is down
	kill     func()  // ends it
	machines map[fleet.MAC]*machine
	formed   int
	rotated  int
	members  map[string]bool
	tidied   int
	left     []string      // in the cluster's list, by joins that came to nothing
	doubt    time.Duration // how long a tidy-up is not sure of others
	slow     time.Duration // how long it takes to rotate tokens
	away     bool          // no manager answers at the end of a run
	bmc      *fakeBMC      // of all machines; nil: there is nothing to be made on it
	shop     *workshop     // their firmware; nil: nobody changes it
	relays   Relays        // of ours; nil: each may be
	own      Addresses     // of the server; nil: they are not known
	heard    int           // orders, and questions about the power
	wipedAs  []string      // versions and settings when a disk was wiped
}

func newRack(ctx context.Context, t *testing.T, n int) *rack {
	r := &rack{t: t, ctx: ctx, machines: map[fleet.MAC]*machine{}, members: map[string]bool{}}
	for i := range n {
		mac := fleet.MAC(fmt.Sprintf("52:54:00:00:00:%02x", i+1))
		r.machines[mac] = &machine{rack: r, mac: mac, diskSize: 8 << 30}
	}
	return r
}

// machine returns the only machine, or the first one.
func (r *rack) machine() *machine { return r.machines[deskMAC] }

func (r *rack) engine() *Engine {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.server
}

// Switch implements Power.
func (r *rack) Switch(ctx context.Context, n fleet.Node, o fleet.PowerOrder) (fleet.Switched, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard++
	m := r.machines[n.MAC]
	if r.shop != nil && (o.Op == fleet.PowerCycle || o.Op == fleet.PowerOn) {
		_, _ = r.shop.Switch(ctx, n, o)
	}
	switch o.Op {
	case fleet.PXENext, fleet.HTTPNext:
		m.url = o.URL
		if m.needsOff && m.cancel != nil {
			return fleet.Switched{}, &fleet.Error{Kind: fleet.Conflict, Code: fleet.CodeBMCNeedsOff, Err: errors.New("it is on")}
		}
		m.pxeNext = true
	case fleet.MediaNext:
		m.disc, m.pxeNext = o.URL, true
		if m.mute {
			return fleet.Switched{}, &fleet.Error{Kind: fleet.Unreachable, Code: fleet.CodeBMCTimeout, Hint: "see that it has power", Err: errors.New("no answer")}
		}
	case fleet.MediaEject:
		if m.stuck {
			return fleet.Switched{}, &fleet.Error{Kind: fleet.Conflict, Code: fleet.CodeBMCNoEffect, Hint: "pull " + m.disc, Err: errors.New("it stays in: " + m.disc)}
		}
		m.disc = ""
	case fleet.PowerCycle:
		m.powerOn() //nolint:contextcheck // the machine outlives the request
	case fleet.PowerOn:
		if m.cancel == nil {
			m.powerOn() //nolint:contextcheck // the machine outlives the request
		}
	case fleet.PowerOff:
		m.powerOff()
	default:
	}
	return fleet.Switched{Before: fleet.PowerIsOn, After: fleet.PowerIsOn}, nil
}

func (m *machine) powerOff() {
	if m.cancel != nil {
		m.cancel()
		m.cancel = nil
	}
}

// switchOn is what a person does, and switchOff.
func (r *rack) switchOn(m *machine) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m.powerOn()
}

func (r *rack) switchOff(m *machine) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m.powerOff()
}

// powerOn starts the machine; the caller holds the rack's lock.
func (m *machine) powerOn() {
	m.powerOff()
	ctx, cancel := context.WithCancel(m.rack.ctx)
	m.cancel = cancel
	m.boots++
	m.done = map[string]fleet.StepReport{}
	installed := m.onDisk && !m.pxeNext
	m.pxeNext = false
	boot := fmt.Sprintf("%s-%d", m.mac, m.boots)
	go m.live(ctx, boot, installed)
}

// live is one boot: firmware, hello, and the agent's loop.
func (m *machine) live(ctx context.Context, boot string, installed bool) {
	if !m.sleep(ctx, cmp.Or(m.post, 10*time.Second)) {
		return
	}
	if !installed && m.stopped(ctx) {
		return
	}
	for !installed && !m.hello(ctx, boot) {
		if !m.sleep(ctx, time.Second) {
			return
		}
	}
	var report *fleet.StepReport
	for ctx.Err() == nil {
		e := m.rack.engine()
		if e == nil {
			m.sleep(ctx, 500*time.Millisecond)
			continue
		}
		pollCtx, cancel := context.WithTimeout(ctx, 20*time.Second)
		step, err := e.Poll(pollCtx, fleet.Session{Node: m.node, BootID: boot, Installed: installed}, report)
		cancel()
		if err != nil || m.rack.engine() != e {
			m.sleep(ctx, 500*time.Millisecond)
			continue // say it again
		}
		report = nil
		if step != nil {
			r := m.carryOut(ctx, e, *step)
			report = &r
		}
	}
}

func (m *machine) sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// stopped reports whether the boot has come to a stand until the plug was pulled.
func (m *machine) stopped(ctx context.Context) bool {
	m.rack.mu.Lock()
	e, stops := m.rack.server, m.stops
	m.stops = stops[min(1, len(stops)):]
	m.rack.mu.Unlock()
	if len(stops) == 0 {
		return false
	}
	if at := stops[0]; at != fleet.PhasePower && e != nil {
		e.Observe(fleet.Evidence{MAC: m.mac, Phase: at, Whole: at == fleet.PhaseKernel})
	}
	<-ctx.Done()
	return true
}

func (m *machine) hello(ctx context.Context, boot string) bool {
	e := m.rack.engine()
	if e == nil {
		return false
	}
	addr := netip.MustParseAddr("10.77.0.10")
	m.rack.mu.Lock()
	disc, deaf := m.disc, m.deaf
	m.rack.mu.Unlock()
	if deaf {
		return false
	}
	var secret string
	if disc != "" {
		at, err := e.OpenMedia(path.Base(disc))
		if err != nil {
			return false
		}
		e.Observe(fleet.Evidence{MAC: m.mac, Phase: fleet.PhaseLoader})
		secret = at.Hello
	}
	e.Observe(fleet.Evidence{MAC: m.mac, Phase: fleet.PhaseDHCP})
	if disc == "" {
		var err error
		if secret, err = e.MintHello(ctx, m.mac, addr); err != nil {
			return false
		}
	}
	m.sleep(ctx, 5*time.Second)
	n, err := e.Hello(ctx, fleet.Hello{Ticket: secret, Key: fleet.HashSecret(boot), Addr: addr, BootID: boot, MAC: m.mac, Placed: true, UUID: string(m.mac), Inventory: fleet.Inventory{
		Vendor: "QEMU", Serial: string(m.mac), MemoryMiB: 1024,
		Disks: []fleet.Disk{{ID: "virtio-" + string(m.mac), Serial: string(m.mac), Name: "vda", Bytes: m.diskSize, Holds: m.holds}},
		BMC:   fleet.InventoryBMC{Present: true, Address: bmcAddress},
	}})
	m.rack.mu.Lock()
	defer m.rack.mu.Unlock()
	if err == nil && m.node == "" { // boots that follow each other at once may overlap
		m.node = n.ID
	}
	return err == nil
}

// carryOut does a step as the agent would: once by its ID.
func (m *machine) carryOut(ctx context.Context, e *Engine, s fleet.Step) fleet.StepReport {
	m.rack.mu.Lock()
	was, ok := m.done[s.ID]
	m.rack.mu.Unlock()
	if ok {
		return was
	}
	r := fleet.StepReport{StepID: s.ID, State: fleet.StepDone}
	m.sleep(ctx, 2*time.Second)
	m.rack.mu.Lock()
	defer m.rack.mu.Unlock()
	if ctx.Err() != nil {
		return r
	}
	switch s.Kind {
	case fleet.StepDisk:
		m.wiped++
		m.onDisk = false
		if m.rack.shop != nil {
			m.rack.wipedAs = append(m.rack.wipedAs, m.rack.shop.state())
		}
	case fleet.StepWrite:
		m.written++
		m.onDisk = true
	case fleet.StepReboot:
		m.cancel = nil // the agent lives until its report is taken
		go func(old context.Context) {
			m.sleep(old, time.Second)
			m.rack.mu.Lock()
			defer m.rack.mu.Unlock()
			if old.Err() == nil {
				m.powerOn() //nolint:contextcheck // the next boot is another life
			}
		}(ctx)
	case fleet.StepPowerOff:
		m.powerOff()
	case fleet.StepDocker:
		r.Docker = &fleet.DockerResponse{Status: 200, Body: []byte("{}")}
	case fleet.StepBMC:
		r = m.rack.bmc.order(r, *s.BMC)
	case fleet.StepJoin:
		m.rack.mu.Unlock()
		order, err := e.RedeemJoin(ctx, m.node, s.Join.Secret)
		m.rack.mu.Lock()
		if err != nil || order.Token == "" {
			return fleet.StepReport{StepID: s.ID, State: fleet.StepFailed, Failure: fleet.Failure{Code: "E-JOIN", Text: fmt.Sprint(err)}}
		}
		m.swarm = order.Managers[0]
		m.rack.members["swarm-"+string(m.node)] = true
		r.Joined = &fleet.Joined{ClusterID: m.swarm, NodeID: "swarm-" + string(m.node)}
	default: // takes no more than its time
	}
	m.done[s.ID] = r
	return r
}

// Form implements Joiner. Forming again finds what was formed.
func (r *rack) Form(_ context.Context, n fleet.Node) (fleet.Joined, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.machines[n.MAC]
	if m.swarm == "" {
		r.formed++
		m.swarm = fmt.Sprintf("cluster-%d", r.formed)
		r.members["swarm-"+string(n.ID)] = true
	}
	return fleet.Joined{ClusterID: m.swarm, NodeID: "swarm-" + string(n.ID)}, nil
}

// Order implements Joiner.
func (r *rack) Order(_ context.Context, via, _ fleet.Node, _ fleet.Role) (fleet.JoinOrder, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return fleet.JoinOrder{Token: "SWMTKN", Managers: []string{r.machines[via.MAC].swarm}}, nil
}

// Confirm implements Joiner.
func (r *rack) Confirm(_ context.Context, _, n fleet.Node, j fleet.Joined) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.members[j.NodeID] {
		return fmt.Errorf("node %s is not a member", n.ID)
	}
	return nil
}

// Rotate implements Closer.
func (r *rack) Rotate(ctx context.Context, _ fleet.Node) error {
	r.mu.Lock()
	r.rotated++
	away, slow := r.away, r.slow
	r.mu.Unlock()
	if away {
		return errors.New("no answer")
	}
	return rest(ctx, slow)
}

// Tidy implements Closer. What was removed before it is ended is told all the same.
func (r *rack) Tidy(ctx context.Context, _ fleet.Node) ([]string, error) {
	r.mu.Lock()
	r.tidied++
	left, doubt := r.left, r.doubt
	r.left = nil
	r.mu.Unlock()
	return left, rest(ctx, doubt)
}

// Image implements Images.
func (r *rack) Image(name fleet.ImageName) (fleet.Image, error) {
	return fleet.Image{Name: name, Digest: "sha256:1", Bytes: 2 << 30}, nil
}

// Seed implements Seeds.
func (r *rack) Seed(fleet.Node, fleet.Profile) ([]fleet.SeedFile, error) { return nil, nil }

func testSite() fleet.Site {
	return fleet.Site{
		Stages:   []fleet.Stage{{Name: "prd"}},
		Profiles: []fleet.Profile{{Name: "debian", Image: "debian-12"}},
		Pools:    []fleet.Pool{{Name: "prd", Stage: "prd", Profile: "debian", Cluster: fleet.Swarm, Managers: 1, Trust: fleet.T1}},
		Rules:    []fleet.Rule{{Name: "rack", Match: fleet.Match{MACPrefix: "52:54:00"}, Pool: "prd", Approve: true, BMC: fleet.BMCAccess{Username: "admin", PasswordFile: "bmc", SealedPassword: "sealed"}}},
	}
}

// serve starts a server on the store, and returns a function that kills it.
func (r *rack) serve(s *memoryStore) (*Engine, func()) { return r.serveOn(r.ctx, s) }

func (r *rack) serveOn(ctx context.Context, s *memoryStore) (*Engine, func()) {
	o := Options{Store: s, Power: r, Images: r, Seeds: r, Joiner: r, Closer: r, Relays: r.relays, Addresses: r.own, TicketKey: []byte("the key of this rack")}
	if r.bmc != nil {
		o.Prober, o.Vault, o.Accounts = r.bmc, r.bmc, r.bmc
		if r.bmc.maker {
			o.Maker = r.bmc
		}
	}
	if r.shop != nil {
		o.Setup, o.Updater, o.Examiner, o.Checkups, o.CheckEvery = r.shop, r.shop, r.shop, r.shop, -1
	}
	e := New(o)
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := e.Run(ctx); err != nil {
			r.t.Errorf("engine ended: %v", err)
		}
	}()
	select {
	case <-e.Started():
	case <-done:
	}
	r.mu.Lock()
	r.server = e
	r.mu.Unlock()
	return e, func() {
		r.mu.Lock()
		r.server = nil
		r.mu.Unlock()
		cancel()
		<-done
	}
}
