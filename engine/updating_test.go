package engine

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rackstage/provision/fleet"
)

// A busyShop is a workshop whose BMC does not say what it has for a while after
// an update.
type busyShop struct {
	*workshop
	code  fleet.Code
	until time.Time
}

// Examine implements Examiner.
func (b *busyShop) Examine(ctx context.Context, n fleet.Node, all bool) (fleet.Checkup, error) {
	b.mu.Lock()
	updated := len(b.updated) > 0
	b.mu.Unlock()
	if updated && time.Now().Before(b.until) {
		return fleet.Checkup{}, &fleet.Error{Kind: fleet.Conflict, Code: b.code, Err: errors.New("gave way to somebody")}
	}
	return b.workshop.Examine(ctx, n, all)
}

func TestAMachineIsNotRestartedForWhatItsBMCHasNotSaid(t *testing.T) {
	tests := map[string]struct {
		code  fleet.Code
		quiet time.Duration
		want  fleet.FirmwareState
	}{
		"it gives way to somebody":   {fleet.CodeBMCBusy, 8 * time.Minute, fleet.FirmwareDone},
		"it restarts by itself":      {fleet.CodeBMCTimeout, 8 * time.Minute, fleet.FirmwareDone},
		"it gives way all the time":  {fleet.CodeBMCBusy, 2 * time.Hour, fleet.FirmwareFailed},
		"it does not come back soon": {fleet.CodeBMCTimeout, 2 * time.Hour, fleet.FirmwareFailed},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorkshop()
				s := &memoryStore{}
				s.world.Site = fleet.Site{
					Pools:    []fleet.Pool{{Name: "prd"}},
					Firmware: []fleet.FirmwareTarget{{Vendor: "Contoso", Component: "BMC", Version: "2.0", URL: "http://10.0.0.1/bmc-2.0.bin"}},
				}
				s.world.Nodes = []fleet.Node{{
					ID: "n-1", MAC: "52:54:00:00:00:01", State: fleet.Ready, Pool: "prd", Revision: 1,
					Inventory: fleet.Inventory{Vendor: "Contoso Ltd.", Product: "Rack 1U"},
					BMC:       fleet.BMC{Address: "10.77.2.1", Driver: fleet.DriverRedfish, Username: "admin", SealedPassword: "x"},
				}}
				b := &busyShop{workshop: w, code: tt.code, until: time.Now().Add(tt.quiet)}
				ctx, cancel := context.WithCancel(t.Context())
				e := New(Options{Store: s, Power: w, Setup: w, Updater: w, Examiner: b, Checkups: w, CheckEvery: -1})
				done := make(chan error, 1)
				go func() { done <- e.Run(ctx) }()
				<-e.Started()
				if _, _, err := e.UpdateFirmware(t.Context(), "ada", "n-1", fleet.UpdateOptions{Restart: true}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Hour) //nolint:forbidigo // fake time: synctest
				_, all, err := e.Firmware("n-1")
				if err != nil || len(all) != 1 || all[0].State != tt.want || w.starts != 0 {
					t.Errorf("after %d restarts the update is %+v, %v; want none, and %s", w.starts, all, err, tt.want)
				}
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}
