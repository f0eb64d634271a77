package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"time"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/pxe/tftp"
)

// sawTransfer makes evidence of a loader that was fetched, or was not. What
// strangers do is none.
func (st *station) sawTransfer(t tftp.Transfer) {
	lease, ok := st.leases().LeaseByAddr(t.Client.Addr())
	if !ok {
		return
	}
	if subnet, ok := st.engine.Site().SubnetOf(t.Client.Addr()); ok {
		switch {
		case errors.Is(t.Err, tftp.ErrUnheard):
			st.engine.Raise(fleet.CodeTFTPUnheard, "subnet "+subnet.Name, transferText(t))
		case t.Sent > 0:
			st.engine.Clear(fleet.CodeTFTPUnheard, "subnet "+subnet.Name)
		}
	}
	phase := fleet.PhaseLoader
	switch {
	case t.Probed(), errors.Is(t.Err, fs.ErrNotExist), errors.Is(t.Err, fs.ErrInvalid):
		return // loaders ask for much that need not be there
	case slices.Contains([]string{".ipxe", ".cfg"}, path.Ext(t.Name)) && t.Err == nil:
		return // a script: the loader that asks is running already
	case t.Err != nil && !errors.Is(t.Err, tftp.ErrLastUnheard):
		phase = fleet.PhaseDHCP // it has got no further
	}
	st.lessons.Observe(fleet.Evidence{At: time.Now(), MAC: lease.MAC, Phase: phase, Detail: fleet.CleanText(transferText(t)), File: path.Base(t.Name)})
}

// transferText says in one line how a transfer went.
func transferText(t tftp.Transfer) string {
	took := t.Duration.Round(time.Millisecond)
	how := fmt.Sprintf("%d bytes in %s, block %d, window %d", t.Sent, took, t.Block, t.Window)
	if t.RTT > 0 {
		how += ", round trip " + t.RTT.Round(10*time.Microsecond).String()
	}
	if t.Resent > 0 {
		how += fmt.Sprintf(", %d of %d packets sent again", t.Resent, t.Packets)
	}
	switch {
	case t.Err == nil:
		return fmt.Sprintf("%s by TFTP, %s", t.Name, how)
	case errors.Is(t.Err, tftp.ErrUnheard):
		return fmt.Sprintf("%s by TFTP: it asked, and none of %d packets from our port %d was ever acknowledged: %s",
			t.Name, t.Packets, t.Local.Port(), fleet.Diagnose(fleet.CodeTFTPUnheard).FixFor(t.Client.Addr().String()))
	case t.Block == 0:
		return fmt.Sprintf("%s by TFTP failed: %v", t.Name, t.Err)
	}
	return fmt.Sprintf("%s by TFTP failed: %v; %s of %d", t.Name, t.Err, how, t.Size)
}
