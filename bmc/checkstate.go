package bmc

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/types"

	"github.com/rackstage/provision/fleet"
)

// A manager is what a Redfish service says about the BMC itself.
type manager struct {
	Manufacturer string
	Model        string
	Firmware     string `json:"FirmwareVersion"`
	DateTime     string
}

func (r *redfish) manager(ctx context.Context) (m manager, err error) {
	path, err := r.managerPath(ctx)
	if err != nil {
		return m, err
	}
	return m, r.get(ctx, path, &m)
}

// managerPath returns the path of the BMC of our system.
func (r *redfish) managerPath(ctx context.Context) (string, error) {
	system, err := r.systemPath(ctx)
	if err != nil {
		return "", err
	}
	var s struct {
		Links struct{ ManagedBy []link }
	}
	if err := r.get(ctx, system, &s); err != nil {
		return "", err
	}
	if len(s.Links.ManagedBy) > 0 && localPath(s.Links.ManagedBy[0].Path) != "" {
		return localPath(s.Links.ManagedBy[0].Path), nil
	}
	paths, err := r.members(ctx, rootPath+"Managers")
	if err == nil && len(paths) == 0 {
		err = fmt.Errorf("%w: it lists no manager", ErrUnsupported)
	}
	if err != nil {
		return "", err
	}
	return paths[0], nil
}

func (k *checkup) model(ctx context.Context) outcome {
	var m fleet.BMCModel
	var err error
	if k.t.Driver.Web() {
		m, err = talkRedfish(ctx, k.c, k.t, func(ctx context.Context, r *redfish) (fleet.BMCModel, error) {
			it, err := r.manager(ctx)
			return fleet.BMCModel{Vendor: it.Manufacturer, Product: it.Model, Firmware: it.Firmware}, err
		})
	} else {
		m, err = talkIPMI(ctx, k.c, k.t, operator, func(ctx context.Context, ipmi *client.Client) (m fleet.BMCModel, err error) {
			id, err := ipmi.GetDeviceID(ctx)
			if err != nil {
				return m, err
			}
			vendor := types.OEM(id.ManufacturerID).String()
			if vendor == "Unknown" {
				vendor = fmt.Sprintf("vendor %d", id.ManufacturerID)
			}
			return fleet.BMCModel{Vendor: vendor, Product: fmt.Sprint(id.ProductID), Firmware: id.FirmwareVersionStr()}, nil
		})
	}
	if err != nil {
		return k.unable("nothing; but a profile for the BMC of "+k.t.name()+" cannot name its firmware", err)
	}
	for _, text := range []*string{&m.Vendor, &m.Product, &m.Firmware} {
		*text = strings.TrimSpace(fleet.CleanText((*text)[:min(len(*text), 64)]))
	}
	k.report.Model = m
	if m.Firmware == "" {
		return warn("nothing; but a profile for the BMC of "+k.t.name()+" cannot name its firmware", "%s %s, of no version", m.Vendor, m.Product)
	}
	return fine("%s %s, version %s", m.Vendor, m.Product, m.Firmware)
}

// system sees that the system behind the service is the node.
func (k *checkup) system(ctx context.Context) outcome {
	type both struct {
		Version string `json:"RedfishVersion"`
		path    string
		system  resource
	}
	got, err := talkRedfish(ctx, k.c, k.t, func(ctx context.Context, r *redfish) (b both, err error) {
		if err = r.get(ctx, rootPath, &b); err != nil {
			return b, err
		}
		if b.path, err = r.systemPath(ctx); err != nil {
			return b, err
		}
		return b, r.get(ctx, b.path, &b.system)
	})
	if err != nil {
		return k.failed(err)
	}
	other := func(known, said string) bool { return known != "" && said != "" && !strings.EqualFold(known, said) }
	if other(k.t.UUID, got.system.UUID) && other(k.t.Serial, got.system.Serial) {
		return fail("say which system it is: provision bmc probe "+k.t.name()+" --system PATH", "%s is another machine, with serial %s", got.path, got.system.Serial)
	}
	return fine("Redfish %s, %s", got.Version, got.path)
}

func (k *checkup) powerState(ctx context.Context) outcome {
	var seen []fleet.PowerState
	for range 3 {
		state, err := k.c.Power(ctx, k.t)
		if err != nil {
			return k.failed(err)
		}
		seen = append(seen, state)
	}
	if slices.Contains(seen, fleet.PowerIsUnknown) {
		return fail("restart the BMC of "+k.t.name()+", or update its firmware", "it does not know whether the machine is on")
	}
	return fine("%s", seen[len(seen)-1])
}

// slowAnswer is more than a conversation takes with a BMC that is well.
const slowAnswer = 3 * time.Second

func (k *checkup) responseTime(ctx context.Context) outcome {
	var took []time.Duration
	for range 3 {
		d, err := guard(ctx, k.c, k.t, func(ctx context.Context) (time.Duration, error) {
			began := time.Now()
			l, err := k.c.open(ctx, k.t)
			if err != nil {
				return 0, err
			}
			_, err = l.power(ctx)
			l.hangUp(ctx)
			return time.Since(began), err
		})
		if err != nil {
			return k.failed(err)
		}
		took = append(took, d)
	}
	slices.Sort(took)
	return k.speed(took[1])
}

func (k *checkup) speed(d time.Duration) outcome {
	if d > slowAnswer {
		return warn("restart the BMC of "+k.t.name()+" if it was faster before", "%s to sign in, ask and sign off", round(d))
	}
	return fine("%s to sign in, ask and sign off", round(d))
}

// wrongClock is how far a clock may be off; zone is what zones differ by.
const (
	wrongClock = time.Minute
	zone       = 15 * time.Minute
	farthest   = 14 * time.Hour
)

func (k *checkup) clock(ctx context.Context) outcome {
	fix := "set the clock of the BMC of " + k.t.name() + ", or give it an NTP server"
	var now time.Time
	var err error
	if k.t.Driver.Web() {
		now, err = talkRedfish(ctx, k.c, k.t, func(ctx context.Context, r *redfish) (t time.Time, err error) {
			m, err := r.manager(ctx)
			if err != nil {
				return t, err
			}
			t, err = time.Parse(time.RFC3339, m.DateTime)
			if err != nil {
				return t, fmt.Errorf("%w: it tells no time", ErrUnsupported)
			}
			return t, nil
		})
	} else {
		now, err = talkIPMI(ctx, k.c, k.t, operator, func(ctx context.Context, ipmi *client.Client) (t time.Time, err error) {
			it, err := ipmi.GetSELTime(ctx)
			if err != nil {
				return t, err
			}
			return it.Time, nil
		})
	}
	if err != nil {
		return k.unable("nothing; but times in the event log of "+k.t.name()+" mean nothing", err)
	}
	off := time.Since(now)
	rest := off - off.Round(zone)
	switch {
	case off.Abs() < wrongClock:
		return fine("%s off", round(off.Abs()))
	case rest.Abs() < wrongClock && off.Abs() < farthest:
		return fine("it shows local time, %s from UTC", -off.Round(zone))
	}
	return warn(fix, "it says %s", now.UTC().Format(time.DateTime))
}

func (k *checkup) bootURL(ctx context.Context) outcome {
	type boot struct {
		Targets []string        `json:"BootSourceOverrideTarget@Redfish.AllowableValues"`
		URL     json.RawMessage `json:"HttpBootUri"`
	}
	got, err := talkRedfish(ctx, k.c, k.t, func(ctx context.Context, r *redfish) (boot, error) {
		var s struct{ Boot boot }
		path, err := r.systemPath(ctx)
		if err != nil {
			return boot{}, err
		}
		return s.Boot, r.get(ctx, path, &s)
	})
	switch {
	case err != nil:
		return k.failed(err)
	case !slices.Contains(got.Targets, bootTargets[HTTP]):
		return warn("boot "+k.t.name()+" by PXE or by virtual media", "it lists no UefiHttp")
	case got.URL == nil:
		return warn("give the URL by DHCP, or boot "+k.t.name()+" by PXE", "UefiHttp, without HttpBootUri")
	}
	return fine("UefiHttp with HttpBootUri")
}
