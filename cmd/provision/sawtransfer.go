package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path"
	"slices"
	"time"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/pxe"
	"github.com/rackstage/provision/pxe/tftp"
)

// A transferWatch makes evidence of a loader that was fetched, or was not, and
// an alarm of a subnet where nobody hears our answers. What strangers do is
// neither.
type transferWatch struct {
	machine func(netip.Addr) (fleet.MAC, bool)
	subnet  func(netip.Addr) (fleet.Subnet, bool)
	alarms  interface {
		Raise(code, on, detail string)
		Clear(code, on string)
	}
	unheard *unheardTries
	now     func() time.Time
	observe func(fleet.Evidence)
	stalled func(fleet.MAC, int) // large blocks never came through
	flowed  func(fleet.MAC)      // they did
	relay   string               // that it went through; "": none
	absent  func(string) string  // what is the matter with a file that is not there; "": nobody is told to load it
}

func (st *station) sawTransfer(t tftp.Transfer) {
	st.tree.slow.Done(t)
	st.transfers("").saw(t)
}

func (st *station) transfers(relay string) transferWatch {
	return transferWatch{
		machine: st.leases().machineAt, subnet: func(a netip.Addr) (fleet.Subnet, bool) { return st.engine.Site().SubnetOf(a) },
		alarms: st.engine, unheard: &st.unheard, now: time.Now, relay: relay,
		observe: st.lessons.Observe, stalled: st.lessons.Stalled, flowed: st.lessons.Flowed, absent: st.absent,
	}
}

func (w transferWatch) saw(t tftp.Transfer) {
	mac, ok := w.machine(t.Client.Addr())
	if !ok {
		return
	}
	w.alarm(t, mac)
	if t.Proved && t.Err == nil && t.Block > pxe.SmallBlock && t.Sent > pxe.SmallBlock {
		w.flowed(mac)
	}
	phase := fleet.PhaseLoader
	switch {
	case errors.Is(t.Err, fs.ErrNotExist):
		w.notThere(t, mac)
		return
	case t.Stalled():
		phase = fleet.PhaseDHCP
		if t.Proved {
			defer w.stalled(mac, t.Block)
		}
	case t.Probed(), errors.Is(t.Err, fs.ErrInvalid):
		return
	case slices.Contains([]string{".ipxe", ".cfg"}, path.Ext(t.Name)) && t.Err == nil:
		return // a script: the loader that asks is running already
	case t.Err != nil && !errors.Is(t.Err, tftp.ErrLastUnheard):
		phase = fleet.PhaseDHCP // it has got no further
	}
	ev := fleet.Evidence{At: time.Now(), MAC: mac, Phase: phase, Detail: fleet.CleanText(w.text(t)), File: path.Base(t.Name)}
	if !t.Proved {
		ev.File = "" // it teaches nothing about loaders: somebody else may have asked in the machine's name
	}
	w.observe(ev)
}

// notThere makes evidence of a file that a machine was told to load and that is
// not there. It teaches nothing about loaders, and proves nothing: nobody has to
// hear our answer to ask for a file in a machine's name.
func (w transferWatch) notThere(t tftp.Transfer, mac fleet.MAC) {
	name := path.Base(t.Name)
	if why := w.absent(name); why != "" {
		w.observe(fleet.Evidence{At: time.Now(), MAC: mac, Detail: fleet.CleanText(name + " by TFTP: " + why)})
	}
}

// alarm raises and ends the alarm of a subnet where our answers do not arrive.
func (w transferWatch) alarm(t tftp.Transfer, mac fleet.MAC) {
	subnet, ok := w.subnet(t.Client.Addr())
	switch {
	case !ok:
	case errors.Is(t.Err, tftp.ErrUnheard):
		if w.unheard.unheard(subnet.Name, mac, w.now()) {
			w.alarms.Raise(fleet.CodeTFTPUnheard, "subnet "+subnet.Name, w.text(t))
		}
	case t.Sent > 0 && (t.Proved || t.Local.Port() == tftp.Port): // what else was acknowledged may be guessed
		w.unheard.heard(subnet.Name)
		w.alarms.Clear(fleet.CodeTFTPUnheard, "subnet "+subnet.Name)
	}
}

func (w transferWatch) text(t tftp.Transfer) string {
	if w.relay == "" {
		return transferText(t)
	}
	return "relay " + w.relay + ": " + transferText(t)
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
