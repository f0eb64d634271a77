package rescue

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// protectEvery is how often new disks are looked for: some controllers take
// their time, and somebody may plug one in.
const protectEvery = time.Second

// Protect makes every disk read-only as it shows up, once: whoever makes one
// writable again has his way. It ends with ctx.
func Protect(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(protectEvery)
	defer tick.Stop()
	seen := map[string]bool{}
	for {
		for _, name := range disks("/sys/block") {
			if seen[name] {
				continue
			}
			seen[name] = true
			if err := readOnly("/dev/" + name); err != nil {
				log.Warn("disk is writable", "disk", name, "err", err)
				continue
			}
			log.Info("disk is read-only", "disk", name)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// disks are the block devices that have hardware behind them.
func disks(sys string) (names []string) {
	found, _ := os.ReadDir(sys) // none, while it is not there
	for _, d := range found {
		if _, err := os.Stat(filepath.Join(sys, d.Name(), "device")); err == nil {
			names = append(names, d.Name())
		}
	}
	return names
}

func readOnly(device string) error {
	f, err := os.Open(device)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.IoctlSetPointerInt(int(f.Fd()), unix.BLKROSET, 1)
}
