package main

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/pxe"
)

// checkLoaders is how soon a loader that has gone, or came, is noticed. It is
// more often than an alarm stands by itself.
const checkLoaders = time.Minute

// followLoaders raises an alarm for each loader that is not there, until ctx
// is done: the machines that need it find out at the worst of times.
func (st *station) followLoaders(ctx context.Context) error {
	tick := time.NewTicker(checkLoaders)
	defer tick.Stop()
	dir := filepath.Join(st.conf.StateDir, "boot")
	for {
		for _, name := range pxe.Loaders() {
			on := "loader " + name
			if about, err := os.Stat(filepath.Join(dir, name)); err != nil || about.Size() == 0 {
				st.engine.Raise(fleet.CodeNoLoader, on, name+" is not in "+dir)
				continue
			}
			st.engine.Clear(fleet.CodeNoLoader, on)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
