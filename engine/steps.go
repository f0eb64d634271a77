package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rackstage/provision/fleet"
)

func (j job) load() (fleet.Node, fleet.RunNode, error) {
	n, ok := j.e.world.node(j.node)
	if !ok {
		return n, fleet.RunNode{}, unknownNode(string(j.node))
	}
	r, err := j.e.GetRun(j.run)
	if err != nil {
		return n, fleet.RunNode{}, err
	}
	i := slices.IndexFunc(r.Nodes, func(rn fleet.RunNode) bool { return rn.Node == j.node })
	if i < 0 {
		return n, fleet.RunNode{}, fmt.Errorf("node %s is not in run %s", j.node, j.run)
	}
	return n, r.Nodes[i], nil
}

// stepID names a step of this attempt. It is the same after a restart of the
// server, so that an agent that has done it already just says so.
func (j job) stepID(kind fleet.StepKind, attempt int) string {
	return fmt.Sprintf("%s/%s/%s/%d", j.run, j.node, kind, attempt)
}

// power has the machine boot from the network.
func (j job) power(ctx context.Context) error {
	n, _, err := j.load()
	if err != nil {
		return err
	}
	switch d := n.BMC.Via(); {
	case d == fleet.DriverManual, d == fleet.DriverWOL, j.again && byPerson(n.BMC):
		return j.startByHand(ctx, n)
	case !n.BMC.Usable():
		return j.withoutBMC(ctx, n)
	}
	// Whoever was in the ramdisk is about to be switched off.
	before := j.e.session(j.node)
	order, err := j.e.networkBoot(n)
	if err != nil {
		return err
	}
	text := "next boot from " + cmp.Or(order.URL, "the network") + ", "
	if order.Op == fleet.MediaNext {
		text = "next boot from a CD image of ours, "
	}
	if n.BMC.Via().SetsBoot() {
		if err := j.bootNext(ctx, n, order); err != nil {
			return err
		}
	} else {
		text = "boots by the firmware's own order, "
	}
	cycle := fleet.PowerOrder{Op: fleet.PowerCycle, Reason: "run " + string(j.run)}
	done, err := j.e.switchNode(ctx, n, cycle)
	if err != nil {
		return err
	}
	l := j.e.links.of(j.node)
	l.forget(before)
	l.feed(time.Time{})
	return j.e.update(ctx, func(t *tx) error {
		n, err := t.node(j.node)
		if err != nil {
			return err
		}
		t.event(fleet.EventPower, n, "engine", text+powerText(cycle, done, nil))
		return t.reach(n, fleet.PhasePower)
	})
}

// networkBoot is how a node is told to boot what we give it.
func (e *Engine) networkBoot(n fleet.Node) (fleet.PowerOrder, error) {
	switch n.BMC.Boot {
	case fleet.BootHTTP:
	case fleet.BootMedia:
		return fleet.PowerOrder{Op: fleet.MediaNext}, nil
	default:
		return fleet.PowerOrder{Op: fleet.PXENext}, nil
	}
	o := fleet.PowerOrder{Op: fleet.HTTPNext, Firmware: "uefi"}
	if e.Loaders == nil {
		return o, nil
	}
	var err error
	o.URL, err = e.Loaders.LoaderURL(n)
	return o, err
}

// bootNext says what a machine boots that is about to be switched off and on.
// Some BMCs take that while it is off only.
func (j job) bootNext(ctx context.Context, n fleet.Node, o fleet.PowerOrder) error {
	if n.BMC.Quirks.BootNeedsOff {
		if _, err := j.e.switchNode(ctx, n, fleet.PowerOrder{Op: fleet.PowerOff}); err != nil {
			return err
		}
	}
	_, err := j.e.switchNode(ctx, n, o)
	return err
}

// withoutBMC takes a machine that stands by in the ramdisk as it is.
func (j job) withoutBMC(ctx context.Context, n fleet.Node) error {
	l := j.e.links.of(j.node)
	l.mu.Lock()
	live := l.session.BootID != "" && !l.session.Installed && time.Since(l.seen) < time.Minute
	l.mu.Unlock()
	if live {
		return j.reached(ctx, fleet.PhasePower)
	}
	return withoutBMC(n, "power on")
}

// forget drops a session that is known to be gone.
func (l *link) forget(s fleet.Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.session == s {
		l.session = fleet.Session{}
		l.changed()
	}
}

// agentWithin is how long after its ramdisk was sent a machine's agent must
// have said hello: kernel and drivers take 5 to 20 s of it, on emulated machines
// of a busy host 60 s. One whose kernel hangs is not waited for until hello's
// own deadline, which has room for firmware and for a whole site's transfers.
const agentWithin = 4 * time.Minute

// hello waits until the agent in the ramdisk is there.
func (j job) hello(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go j.e.links.of(j.node).endWhenSilent(ctx, cancel)
	if !j.again {
		go j.endWhenStill(ctx, cancel)
	}
	err := j.e.await(ctx, j.node, func(s fleet.Session, _ time.Time) bool { return !s.Installed })
	n, _, loadErr := j.load()
	if loadErr != nil {
		return loadErr
	}
	if err != nil {
		return silent(n, err)
	}
	if pool, ok := j.e.Site().Pool(n.Pool); ok && n.Trust < pool.Trust {
		return &fleet.Error{
			Kind: fleet.Denied, Code: "E-TRUST", Op: "trust node", On: n.Title(), Err: fmt.Errorf("it proved T%d, pool %s demands T%d", n.Trust, pool.Name, pool.Trust),
			Hint: "a machine proves more with a BMC of ours, at an address that we leased to it or on a declared subnet of mode proxy; or lower the pool's trust",
		}
	}
	return nil
}

// silent says how far a machine got that never said hello.
func silent(n fleet.Node, err error) error {
	missing := map[fleet.Phase]string{
		fleet.PhasePower:  "it never asked for an address: check cable, VLAN, spanning tree (portfast) and that its firmware boots from the network",
		fleet.PhaseDHCP:   "it got an address and never asked for a boot file: look for another DHCP server on its network",
		fleet.PhaseLoader: "it fetched the loader and never the script: Secure Boot may refuse the loader, or its network card is not known to it",
		fleet.PhaseScript: "it fetched the script and never the kernel: see its console",
		fleet.PhaseKernel: "it fetched kernel and ramdisk and its agent never said hello: too little memory, or its network card's driver is missing",
	}
	if n.BMC.Boot == fleet.BootMedia && !errors.Is(err, context.Canceled) {
		return silentCD(n, err)
	}
	if !errors.Is(err, context.Canceled) && missing[n.Phase] != "" {
		return &fleet.Error{Kind: fleet.Unreachable, Code: "E-BOOT-SILENT", Op: "wait for agent", On: "node " + n.Title(), Err: err, Hint: missing[n.Phase]}
	}
	return err
}

// disk has the agent check that the planned disk is there, and wipe it.
func (j job) disk(ctx context.Context) error {
	n, rn, err := j.load()
	if err != nil {
		return err
	}
	prof, img, err := j.wanted(n)
	if err != nil {
		return err
	}
	d, err := fleet.ChooseDisk(prof.Disk, n.Inventory.Disks, img.Bytes)
	if err != nil {
		return err
	}
	if diskName(d) != rn.Disk {
		return &fleet.Error{
			Kind: fleet.Conflict, Code: "E-DISK-OTHER", Op: "check disk", On: "node " + n.Title(),
			Err: fmt.Errorf("the plan named disk %q, now the rule picks %q", rn.Disk, diskName(d)), Hint: "nothing was written; look at its disks and plan again",
		}
	}
	// It was blank when it was planned, or what it holds was approved, or is
	// what an install of ours left on it.
	if rn.Class == fleet.Add && d.Holds != "" && n.System.Disk != d.ID {
		return &fleet.Error{
			Kind: fleet.Conflict, Code: "E-DISK-HOLDS", Op: "check disk", On: "node " + n.Title(),
			Err: fmt.Errorf("disk %s was blank when it was planned, now it holds %s", diskName(d), d.Holds), Hint: "nothing was written; look at it and plan again: it will ask for approval",
		}
	}
	order := &fleet.DiskOrder{ID: d.ID, Serial: d.Serial, Bytes: d.Bytes, MinBytes: img.Bytes}
	if _, err := j.step(ctx, fleet.Step{Kind: fleet.StepDisk, Disk: order}, rn.Attempt); err != nil {
		return err
	}
	// From here on the disk is ours: what is found on it later is our own.
	err = j.change(ctx, func(n *fleet.Node) { n.System, n.Member = fleet.System{Disk: d.ID}, fleet.Member{} })
	if err != nil {
		return err
	}
	return j.reached(ctx, fleet.PhaseDisk)
}

// step has the agent in the ramdisk do something.
func (j job) step(ctx context.Context, s fleet.Step, attempt int) (fleet.StepReport, error) {
	s.ID = j.stepID(s.Kind, attempt)
	return j.e.do(ctx, j.node, s, false)
}

func (j job) change(ctx context.Context, fn func(n *fleet.Node)) error {
	return j.e.update(ctx, func(t *tx) error {
		n, err := t.node(j.node)
		if err != nil {
			return err
		}
		fn(&n)
		t.put(n)
		return nil
	})
}

// wanted is what the node's pool declares for it.
func (j job) wanted(n fleet.Node) (fleet.Profile, fleet.Image, error) {
	_, prof, err := j.e.pool(n.Pool)
	if err != nil {
		return prof, fleet.Image{}, err
	}
	img, err := j.e.Images.Image(prof.Image)
	return prof, img, err
}

func (j job) write(ctx context.Context) error {
	n, rn, err := j.load()
	if err != nil {
		return err
	}
	prof, img, err := j.wanted(n)
	if err != nil {
		return err
	}
	order := &fleet.WriteOrder{DiskID: n.System.Disk, Image: img.Name, Digest: img.Digest}
	report, err := j.step(ctx, fleet.Step{Kind: fleet.StepWrite, Write: order}, rn.Attempt)
	if err != nil {
		return err
	}
	// How much came from where is worth keeping; its loss is none.
	j.e.Observe(fleet.Evidence{At: time.Now(), MAC: n.MAC, Phase: fleet.PhaseWrite, Detail: report.Failure.Text})
	err = j.change(ctx, func(n *fleet.Node) {
		n.System.Image, n.System.Digest, n.System.Profile = img.Name, img.Digest, prof.Name
	})
	if err != nil {
		return err
	}
	return j.reached(ctx, fleet.PhaseWrite)
}

func (j job) seed(ctx context.Context) error {
	n, rn, err := j.load()
	if err != nil {
		return err
	}
	prof, _, err := j.wanted(n)
	if err != nil {
		return err
	}
	files, err := j.e.Seeds.Seed(n, prof)
	if err != nil {
		return err
	}
	order := &fleet.SeedOrder{DiskID: n.System.Disk, Files: files}
	if _, err := j.step(ctx, fleet.Step{Kind: fleet.StepSeed, Seed: order}, rn.Attempt); err != nil {
		return err
	}
	entry := fleet.Step{Kind: fleet.StepBootEntry, Disk: &fleet.DiskOrder{ID: n.System.Disk}}
	if _, err := j.step(ctx, entry, rn.Attempt); err != nil {
		return err
	}
	return j.reached(ctx, fleet.PhaseSeed)
}

// reboot sends the machine to its disk. It counts as installed before it goes
// down, so that a firmware that asks the network again is told "local disk".
func (j job) reboot(ctx context.Context) error {
	n, rn, err := j.load()
	if err != nil {
		return err
	}
	if err := j.e.emptyDrive(ctx, n); err != nil {
		return err
	}
	if err := j.change(ctx, func(n *fleet.Node) { n.State = fleet.Installed }); err != nil {
		return err
	}
	// After a restart of ours the machine may be past this already.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	up := make(chan error, 1)
	go func() {
		up <- j.e.await(ctx, j.node, func(s fleet.Session, _ time.Time) bool { return s.Installed })
		cancel(errUp)
	}()
	if _, err := j.step(ctx, fleet.Step{Kind: fleet.StepReboot}, rn.Attempt); err != nil && !errors.Is(err, errUp) && !errors.Is(err, errRestarted) {
		return err
	}
	return j.reached(context.WithoutCancel(ctx), fleet.PhaseReboot)
}

var errUp = errors.New("the installed system is up")

// firstBoot waits for the agent of the installed system. When it does not
// come, the machine is switched to its disk by hand of the BMC.
func (j job) firstBoot(ctx context.Context) error {
	n, rn, err := j.load()
	if err != nil {
		return err
	}
	if rn.Class == fleet.Join && rn.Attempt == 1 {
		// It should be up; one that is not is switched on in the next attempt.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 2*time.Minute)
		defer cancel()
	}
	if rn.Attempt > 1 && n.BMC.Usable() && n.BMC.Via().SetsBoot() {
		if err := j.bootNext(ctx, n, fleet.PowerOrder{Op: fleet.DiskNext}); err != nil {
			return err
		}
		if _, err := j.e.switchNode(ctx, n, fleet.PowerOrder{Op: fleet.PowerCycle}); err != nil {
			return err
		}
	}
	if err := j.e.await(ctx, j.node, func(s fleet.Session, _ time.Time) bool { return s.Installed }); err != nil {
		return err
	}
	err = j.change(ctx, func(n *fleet.Node) {
		if n.System.InstalledAt.IsZero() {
			n.System.InstalledAt = time.Now()
		}
	})
	if err != nil {
		return err
	}
	return j.reached(ctx, fleet.PhaseFirstBoot)
}

// docker waits for the node's Docker engine: the agent answers when it does.
func (j job) docker(ctx context.Context) error {
	resp, err := j.e.Docker(ctx, j.node, fleet.DockerRequest{Method: "GET", Path: "/info"})
	if err != nil {
		return err
	}
	if resp.Status != 200 {
		return &fleet.Error{
			Kind: fleet.Unreachable, Code: "E-DOCKER", Op: "ask Docker", Err: fmt.Errorf("status %d: %s", resp.Status, fleet.CleanText(string(resp.Body))),
			Hint: "on the node: systemctl status docker",
		}
	}
	return j.reached(ctx, fleet.PhaseDocker)
}
