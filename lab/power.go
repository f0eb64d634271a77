package lab

import (
	"context"
	"fmt"
)

// Machines returns the machines of the rack, with all that was left to be
// filled in: BMC passwords too.
func (r *Rack) Machines() []Machine {
	ms := make([]Machine, len(r.bays))
	for i, b := range r.bays {
		ms[i] = b.Machine
	}
	return ms
}

// A Status is how a machine of the rack stands.
type Status struct {
	Machine Machine
	Dir     string // logs and all
	On      bool
	BMC     bool   // its BMC runs
	Boot    string // the override for the next start, or ""
}

// Status looks at all machines of the rack.
func (r *Rack) Status() []Status {
	out := make([]Status, len(r.bays))
	for i, b := range r.bays {
		out[i] = Status{Machine: b.Machine, Dir: b.dir, On: b.running(), BMC: b.bmcAlive(), Boot: b.boot().Device}
	}
	return out
}

// Namespace returns the name of the network namespace, for `ip netns exec`.
func (r *Rack) Namespace() string { return string(r.namespace()) }

// Dir returns the directory in which the rack is described.
func (r *Rack) Dir() string { return r.dir }

// PowerOn is a person who presses the power button: the BMC is not asked.
func (r *Rack) PowerOn(ctx context.Context, name string) error {
	return r.switches(name, func(b *bay) error { return b.start(ctx) })
}

// PowerOff is a person who pulls the plug of the machine, not of its BMC.
func (r *Rack) PowerOff(name string) error {
	return r.switches(name, (*bay).stop)
}

func (r *Rack) switches(name string, act func(*bay) error) error {
	b, err := r.bay(name)
	if err != nil {
		return err
	}
	unlock, err := b.lock()
	if err != nil {
		return err
	}
	defer unlock()
	return act(b)
}

// SetFault lets a BMC misbehave from now on; the zero Fault ends it.
func (r *Rack) SetFault(name string, f Fault) error {
	b, err := r.bay(name)
	if err != nil {
		return err
	}
	return b.setFault(f)
}

func (r *Rack) bay(name string) (*bay, error) {
	for _, b := range r.bays {
		if b.Machine.Name == name {
			return b, nil
		}
	}
	return nil, fmt.Errorf("the rack has no machine %q", name)
}

// BootNext sets what a machine boots from when it is switched on next, once:
// "pxe" or "disk".
func (r *Rack) BootNext(name, device string) error {
	return r.switches(name, func(b *bay) error { return b.setBoot(override{Device: device}) })
}
