package lab

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Options say what rack to build.
type Options struct {
	Name     string    // names the network namespace, so it must be unique on the host; "lab" when empty
	Dir      string    // where everything about the rack is kept
	Machines []Machine // DefaultRack(3) when empty
	IPv6     bool      // no IPv4 on the machines' network, and no IPv4 PXE in their firmware
	// HookCommand is what the BMCs run, such as {"/usr/bin/provision", "lab",
	// "hook"}: a program that calls [Hook] with the arguments that follow.
	// When empty it is this very program with "lab" "hook".
	HookCommand []string
	Accel       Accelerator // found out by trial when empty
	Log         *slog.Logger
}

func (o Options) withDefaults() (Options, error) {
	o.Name = or(o.Name, "lab")
	if !nameShape.MatchString(o.Name) {
		return o, fmt.Errorf("name of the rack %q: want lower-case letters, digits and dashes", o.Name)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil || o.Dir == "" {
		return o, fmt.Errorf("directory of the rack %q: want a path", o.Dir)
	}
	o.Dir = dir
	if len(o.HookCommand) == 0 {
		self, err := os.Executable()
		if err != nil {
			return o, fmt.Errorf("find this program: %w", err)
		}
		o.HookCommand = []string{self, "lab", "hook"}
	}
	if strings.ContainsAny(strings.Join(append(slices.Clone(o.HookCommand), o.Dir), ""), "'\"\\\n") {
		return o, errors.New("the paths of rack and hook must not have quotes or backslashes in them: ipmi_sim cannot take them")
	}
	if len(o.Machines) == 0 {
		o.Machines = DefaultRack(3)
	}
	return o, o.checkMachines()
}

func (o *Options) checkMachines() error {
	const most = 99 // the addresses of the BMCs and our port numbers
	if len(o.Machines) > most {
		return fmt.Errorf("a rack has at most %d machines, not %d", most, len(o.Machines))
	}
	o.Machines = slices.Clone(o.Machines)
	seen := map[string]bool{}
	for i, m := range o.Machines {
		m = m.withDefaults(i)
		m.IPv6 = m.IPv6 || o.IPv6
		if m.BMC.Password == "" {
			m.BMC.Password = rand.Text()[:16]
		}
		if err := m.check(); err != nil {
			return err
		}
		for _, id := range []string{m.Name, m.MAC, m.UUID, m.BMC.Address.String()} {
			if seen[id] {
				return fmt.Errorf("two machines of the rack share %s", id)
			}
			seen[id] = true
		}
		o.Machines[i] = m
	}
	return nil
}
