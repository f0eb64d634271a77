package agent

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"runtime"
	"time"

	"github.com/rackstage/provision/agent/bmc"
	"github.com/rackstage/provision/agent/chunk"
	"github.com/rackstage/provision/agent/disk"
	"github.com/rackstage/provision/agent/fault"
	"github.com/rackstage/provision/agent/ramdisk"
	"github.com/rackstage/provision/agent/retry"
	"github.com/rackstage/provision/api"
)

// An installer does the steps of the ramdisk.
type installer struct {
	client  *client
	disks   disk.System
	log     *slog.Logger
	restart func(off bool) error // shows what is still to be shown, and goes down
	last    string               // disk of the last order: the boot entry is for it
}

func (in *installer) doers() map[string]doer {
	return map[string]doer{
		api.StepDisk:      in.disk,
		api.StepWrite:     in.write,
		api.StepSeed:      in.seed,
		api.StepBootEntry: in.bootEntry,
		api.StepReboot:    in.down(false),
		api.StepBMC:       in.bmc,
		api.StepPowerOff:  in.down(true),
	}
}

// disk checks that the planned disk is there, and only then wipes it.
func (in *installer) disk(ctx context.Context, s *api.Step, _ func(int, string)) (outcome, error) {
	order, err := need(s.Disk, s)
	if err != nil {
		return outcome{}, err
	}
	d, err := in.disks.Check(*order)
	if err != nil {
		return outcome{}, err
	}
	in.log.Info("disk checked, wiping", "disk", d.ID, "name", d.Name, "serial", d.Serial, "bytes", d.Bytes)
	return outcome{text: d.Name + " wiped"}, disk.Wipe(ctx, d)
}

func (in *installer) write(ctx context.Context, s *api.Step, progress func(int, string)) (outcome, error) {
	order, err := need(s.Write, s)
	if err != nil {
		return outcome{}, err
	}
	d, err := in.disks.Ready(order.DiskID)
	if err != nil {
		return outcome{}, err
	}
	index, err := in.index(ctx, order)
	if err != nil {
		return outcome{}, err
	}
	in.last = d.ID
	target, err := disk.Open(d.Path)
	if err != nil {
		return outcome{}, err
	}
	defer target.Close() // synced before
	workers := workersFor(runtime.NumCPU())
	chunks := chunk.New(order.Chunks, workers, slowly(in.log))
	defer chunks.Close()
	rack := chunk.NewRack(chunks, index, chunk.Memory())
	defer rack.Share(ctx, order.Digest, in.tellRack, in.log).Leave() //nolint:contextcheck // the server is told after the end too
	w := disk.Writer{Target: target, Chunks: rack, Workers: workers, Progress: func(done int64) {
		progress(int(done*100/index.Size), fmt.Sprintf("%d of %d MiB", done>>20, index.Size>>20))
	}}
	if err := w.Write(ctx, index); err != nil {
		return outcome{}, err
	}
	got := rack.Stats()
	return outcome{text: fmt.Sprintf("%s written to %s, %d MiB: %d MiB packed from the server, %d MiB from the rack, %d MiB to it",
		index.Name, d.Name, index.Size>>20, got.FromServer>>20, got.FromPeers>>20, got.ToPeers>>20)}, nil
}

// mostWorkers fill any disk. Each holds a connection to the server, which has
// room for so many of all machines together.
const mostWorkers = 8

// workersFor is how many chunks are fetched and written at a time: some wait for
// the network while the processors unpack.
func workersFor(cpus int) int { return min(cpus+2, mostWorkers) }

// tellRack is what [chunk.Share] tells the server.
func (in *installer) tellRack(ctx context.Context, ask api.RackRequest) (reply api.RackReply, err error) {
	err = in.client.call(ctx, api.PathRack, ask, &reply, 10*time.Second)
	if err != nil && final(err) {
		return reply, fmt.Errorf("%w: %w", chunk.ErrNoRack, err)
	}
	return reply, err
}

// index fetches the list of chunks of exactly the ordered image.
func (in *installer) index(ctx context.Context, o *api.WriteOrder) (api.ImageIndex, error) {
	var index api.ImageIndex
	path := api.PathImage + url.PathEscape(o.Image) + "?digest=" + url.QueryEscape(o.Digest)
	var delay retry.Delay
	for {
		err := in.client.call(ctx, path, nil, &index, time.Minute)
		if err == nil {
			break
		}
		if final(err) || ctx.Err() != nil {
			return index, fault.Errorf(fault.ImageIndex, "image %s: %w", o.Image, err)
		}
		if retry.Pause(ctx, delay.Next()) != nil {
			return index, fault.Errorf(fault.ImageIndex, "image %s: %w", o.Image, err)
		}
	}
	if index.Digest != "" && o.Digest != "" && index.Digest != o.Digest {
		return index, fault.Errorf(fault.ImageIndex, "image %s: the server has %s, ordered is %s", o.Image, index.Digest, o.Digest)
	}
	return index, nil
}

// slowly logs one warning in ten seconds: when the server goes away, all
// chunks say so.
func slowly(log *slog.Logger) func(string) {
	gate := make(chan struct{}, 1)
	return func(text string) {
		select {
		case gate <- struct{}{}:
			log.Warn("chunk not fetched, trying again", "err", text)
			time.AfterFunc(10*time.Second, func() { <-gate })
		default:
		}
	}
}

// bmc makes an account on the machine's BMC.
func (in *installer) bmc(ctx context.Context, s *api.Step, _ func(int, string)) (outcome, error) {
	order, err := need(s.BMC, s)
	if err != nil {
		return outcome{}, err
	}
	made, err := bmc.EnrolHere(ctx, *order)
	if err != nil {
		return outcome{}, err
	}
	text := fmt.Sprintf("user %s in slot %d of the BMC, whose address is %s (%s)", order.Username, made.Slot, cmp.Or(made.Address, "none"), made.Source)
	return outcome{bmc: &made, text: text}, nil
}

// down switches the machine off or restarts it, once the server knows.
func (in *installer) down(off bool) doer {
	return func(context.Context, *api.Step, func(int, string)) (outcome, error) {
		return outcome{after: func() error { return in.restart(off) }}, nil
	}
}

// goDown is restart for a real machine.
func goDown(console *ramdisk.Console, log *slog.Logger) func(off bool) error {
	return func(off bool) error {
		if off {
			log.Info("switching off")
			console.Flush()
			return ramdisk.PowerOff()
		}
		log.Info("restarting")
		console.Flush()
		return ramdisk.Restart()
	}
}
