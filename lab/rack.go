package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A Rack is a running virtual rack.
type Rack struct {
	name  string
	dir   string
	bays  []*bay
	log   *slog.Logger
	owner *os.File       // the lock on the directory, while we are the one who made it
	waits []func() error // collect the BMCs that are children of ours
}

const (
	rackFile    = "lab.json"
	ownerFile   = "owner.lock"
	programsDir = "programs" // a file for each that Start has started
)

func (r *Rack) namespace() namespace { return namespaceOf(r.name) }

// rackState is what a rack's directory says about it.
type rackState struct {
	Name     string   `json:"name"`
	Machines []string `json:"machines"`
}

var (
	// ErrInUse says that the directory's rack belongs to a living program.
	ErrInUse = errors.New("the rack is in use")
	// ErrNotRoot says that only root can make network namespaces.
	ErrNotRoot = errors.New("build a virtual rack: this needs root")
	// ErrNoRack says that there is no rack in the directory.
	ErrNoRack = errors.New("there is no rack")
)

// Up builds a rack. All its machines are off. What a crashed predecessor left
// in the directory is ended first. The rack stays until [Rack.Down], also
// when the program ends.
func Up(ctx context.Context, o Options) (*Rack, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		return nil, ErrNotRoot
	}
	if missing := Missing(o.Machines...); len(missing) > 0 {
		return nil, &MissingError{missing}
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make directory of the rack: %w", err)
	}
	owner, err := own(o.Dir)
	if err != nil {
		return nil, err
	}
	r := &Rack{name: o.Name, dir: o.Dir, log: o.Log, owner: owner}
	if err := r.build(ctx, o); err != nil {
		return nil, errors.Join(err, r.Down(context.WithoutCancel(ctx)))
	}
	return r, nil
}

// own takes the directory's lock. The kernel gives it back when we die.
func own(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, ownerFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock of the rack: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%w: another program holds %s", ErrInUse, dir)
	}
	return f, nil
}

func (r *Rack) build(ctx context.Context, o Options) error {
	if err := clearAway(ctx, o.Dir); err != nil {
		return fmt.Errorf("clear away the rack that was here: %w", err)
	}
	ns := r.namespace()
	for _, ns := range []namespace{ns, edgeOf(r.name)} {
		if err := claim(ctx, ns); err != nil {
			return err
		}
	}
	accel := o.Accel
	if accel == "" {
		accel = FindAccelerator(ctx)
	}
	state := rackState{Name: o.Name}
	for _, m := range o.Machines {
		state.Machines = append(state.Machines, m.Name)
	}
	// Written first: whatever happens from here on, Down finds it.
	if err := writeJSON(filepath.Join(o.Dir, rackFile), state); err != nil {
		return err
	}
	if err := ns.create(ctx); err != nil {
		return err
	}
	if err := ns.build(o); err != nil {
		return err
	}
	if hasRemote(o.Machines) {
		if err := buildEdge(ctx, ns, edgeOf(r.name)); err != nil {
			return err
		}
	}
	for i, m := range o.Machines {
		b := &bay{
			Machine: m, Namespace: ns, Tap: tapName(i), KCSPort: 9200 + i, SOLPort: 9300 + i,
			Accel: accel, Hook: o.HookCommand, dir: filepath.Join(o.Dir, m.Name),
		}
		r.bays = append(r.bays, b)
		if err := r.fit(ctx, b); err != nil {
			return err
		}
	}
	for _, b := range r.bays {
		if err := b.awaitBMC(ctx); err != nil {
			return err
		}
	}
	r.log.InfoContext(ctx, "rack built", "rack", o.Name, "machines", len(r.bays), "accelerator", accel)
	return nil
}

// claim makes sure that the namespace's name is free. A namespace without
// anybody in it is what a crash has left, and goes.
func claim(ctx context.Context, ns namespace) error {
	if !ns.exists() {
		return nil
	}
	if pids := ns.holders(); len(pids) > 0 {
		return fmt.Errorf("%w: processes %v live in its network namespace %s", ErrInUse, pids, ns)
	}
	return ns.remove(ctx)
}

// fit puts a machine into its bay and starts its BMC.
func (r *Rack) fit(ctx context.Context, b *bay) error {
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		return fmt.Errorf("make directory of machine %s: %w", b.Machine.Name, err)
	}
	if err := b.remove(consoleFile, bootFile, faultFile, redfishFault, mediaFile); err != nil {
		return err
	}
	if err := writeJSON(b.path(bayFile), b); err != nil {
		return err
	}
	if err := b.prepareDisk(); err != nil {
		return err
	}
	if err := b.prepareBMC(); err != nil {
		return err
	}
	waits, err := b.startBMC(ctx)
	r.waits = append(r.waits, waits...)
	return err
}

// Open finds the rack that is in a directory.
func Open(dir string) (*Rack, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("directory of the rack: %w", err)
	}
	var state rackState
	err = readJSON(filepath.Join(dir, rackFile), &state)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w in %s", ErrNoRack, dir)
	}
	if err != nil {
		return nil, err
	}
	r := &Rack{name: state.Name, dir: dir, log: slog.New(slog.DiscardHandler)}
	for _, name := range state.Machines {
		b, err := openBay(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // the crash came before this one was built
		}
		if err != nil {
			return nil, err
		}
		r.bays = append(r.bays, b)
	}
	return r, nil
}

// Down ends the rack: machines, BMCs, namespace, disks. The logs stay. It can
// be repeated, and only ends processes that it knows to be the rack's own.
func (r *Rack) Down(ctx context.Context) error {
	err := clearAway(ctx, r.dir)
	for _, wait := range r.waits {
		_ = wait() // killed; only collected here
	}
	r.waits = nil
	if r.owner != nil {
		err = errors.Join(err, r.owner.Close())
		r.owner = nil
	}
	return err
}

// Release lets go of the rack without ending it: another program may end it
// with [Down].
func (r *Rack) Release() error {
	if r.owner == nil {
		return nil
	}
	err := r.owner.Close()
	r.owner = nil
	return err
}

// Down ends the rack in a directory, whoever made it.
func Down(ctx context.Context, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("directory of the rack: %w", err)
	}
	return clearAway(ctx, dir)
}
