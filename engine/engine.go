package engine

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rackstage/provision/fleet"
)

// Options are what an engine works with. Those without a remark must be set.
type Options struct {
	Store    Store
	Power    Power
	Images   Images
	Seeds    Seeds
	Joiner   Joiner
	Closer   Closer
	Prober   Prober       // nil: BMCs are not looked at before they are needed
	Consoles Consoles     // nil: nobody reads them
	Vault    Vault        // nil: no accounts are made on BMCs
	Log      *slog.Logger // nil: silent

	Examiner   Examiner      // nil: nobody asks BMCs how machines are
	Setup      Setup         // nil: BIOS settings are left alone
	Updater    Updater       // nil: firmware is left alone
	Checkups   Checkups      // nil: what they say is forgotten at the end
	AskEvery   time.Duration // between two questions after firmware and BIOS settings; 0: 20 s
	CheckEvery time.Duration // between two checkups of a node; 0: 10 minutes; negative: none by itself

	Maker    Maker    // nil: the accounts that BMCs come with are used, with another password
	Accounts Accounts // nil: BMCs keep their passwords, and nobody looks for what is wrong with them
	Checker  Checker  // nil: BMCs are not tested
	Loaders  Loaders  // nil: DHCP says where
	Media    Media    // nil: there are no CD images
	Relays   Relays   // nil: each DHCP relay may be one of ours

	Addresses Addresses // nil: each may be somebody else's

	TicketKey []byte // secret that boot tickets are sealed with; nil: a new one, and tickets do not outlive the engine

	Parallel int // nodes worked on at a time in one run; 0: 20
}

// An Engine drives all nodes of a site.
type Engine struct {
	Options
	world   *world
	tickets *tickets
	links   *links
	bus     *bus
	alarms  *alarms
	found   map[alarmKey]string // of BMCs, as it was alarmed last; guarded by alarms.mu
	places  places              // of strangers
	wishes  *wishes             // of machines without a BMC
	rounds  *rounds
	updates *updates
	hands   *hands
	sights  chan fleet.Evidence
	dropped atomic.Int64 // sightings that did not fit into the queue
	hearing *hearing

	enrolments *enrolments
	checks     bmcChecks
	tooMany    atomic.Int64 // sightings of machines that had too many

	writing sync.Mutex // held while one change is decided and stored

	runs    sync.WaitGroup
	started chan struct{}   // closed when Run has loaded the world
	running context.Context //nolint:containedctx // the life of the engine, which runs started by requests outlive requests in
}

// New returns an engine that does nothing until [Engine.Run].
func New(o Options) *Engine {
	if o.Parallel == 0 {
		o.Parallel = 20
	}
	if o.AskEvery == 0 {
		o.AskEvery = 20 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Engine{
		Options: o,
		world:   newWorld(),
		tickets: newTickets(o.TicketKey),
		links:   newLinks(),
		bus:     newBus(),
		alarms:  newAlarms(),
		rounds:  newRounds(o.CheckEvery),
		updates: newUpdates(),
		hands:   newHands(),
		sights:  make(chan fleet.Evidence, 4096),
		hearing: newHearing(),
		wishes:  newWishes(),

		enrolments: newEnrolments(),
		started:    make(chan struct{}),
	}
}

// Run loads the world, goes on with the runs that were under way, and takes in
// sightings and alarms until ctx is done. It returns when everything that it started has
// stopped; the runs stay as they are in the store.
func (e *Engine) Run(ctx context.Context) error {
	w, err := e.Store.Load(ctx)
	if err != nil {
		return err
	}
	e.world.load(w)
	for _, t := range e.world.hellos {
		e.tickets.reached(t.Used)
	}
	for _, t := range e.world.medias {
		e.tickets.reached(t.Made)
	}
	e.running = ctx
	if err := e.loadCheckups(ctx); err != nil { // runs go by what BMCs have said
		return err
	}
	for _, r := range e.Runs() {
		if !r.State.Over() {
			e.Log.InfoContext(ctx, "run resumed", "run", r.ID)
			e.launch(r.ID)
		}
	}
	close(e.started)
	e.runs.Go(func() { e.doRounds(ctx) })
	e.settleAll(ctx)
	e.takeReports(ctx)
	e.bus.close()
	e.runs.Wait()
	return nil
}

// outliving returns a context for work that must not stop half way, whether
// whoever asked for it still waits or not: a machine that was switched off is
// switched on again. It ends after a time, and with the engine.
func (e *Engine) outliving(ctx context.Context, within time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), within)
	stop := func() bool { return true }
	if e.running != nil { // else nobody ends it
		stop = context.AfterFunc(e.running, cancel)
	}
	return ctx, func() { stop(); cancel() }
}

// Started is closed once the world is loaded: before that nothing is known,
// so nobody should be answered.
func (e *Engine) Started() <-chan struct{} { return e.started }
