package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// clearAway ends whatever a directory says about a rack, in the order in which
// nothing new can come up: programs, BMCs, machines, namespace. Each step is tried, the
// description goes last, so a failed one can be repeated.
func clearAway(ctx context.Context, dir string) error {
	var state rackState
	err := readJSON(filepath.Join(dir, rackFile), &state)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	errs := []error{clearPrograms(filepath.Join(dir, programsDir))}
	for _, name := range state.Machines {
		errs = append(errs, clearBay(filepath.Join(dir, name)))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, ns := range []namespace{edgeOf(state.Name), namespaceOf(state.Name)} {
		if pids := ns.holders(); len(pids) > 0 {
			return fmt.Errorf("processes %v still live in network namespace %s; end them and repeat", pids, ns)
		}
		if err := ns.remove(ctx); err != nil {
			return err
		}
	}
	if err := os.Remove(filepath.Join(dir, rackFile)); err != nil {
		return fmt.Errorf("remove %s: %w", rackFile, err)
	}
	return nil
}

// clearPrograms ends what [Rack.Start] has started and nobody has ended.
func clearPrograms(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read programs of the rack: %w", err)
	}
	for _, e := range entries {
		var p process
		if err := readJSON(filepath.Join(dir, e.Name()), &p); err != nil {
			return err
		}
		if err := p.end(endWithin); err != nil {
			return fmt.Errorf("stop a program of the rack: %w", err)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove %s: %w", programsDir, err)
	}
	return nil
}

func clearBay(dir string) error {
	b, err := openBay(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := b.stopBMC(); err != nil {
		return err
	}
	unlock, err := b.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := b.stop(); err != nil {
		return err
	}
	// The description goes last: a failed attempt can be repeated.
	return b.remove(hostProcess, hostPIDFile, qmpSocket, bootFile, faultFile, redfishFault, mediaFile, bmcDir, lanConfFile, diskFile, varsFile, bayFile)
}
