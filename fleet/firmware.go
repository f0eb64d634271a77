package fleet

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// A FirmwareTarget is the version that a component shall have on machines of a
// model, and the image that brings it there.
type FirmwareTarget struct {
	Vendor    string // contained in the vendor, ignoring case; "" is any
	Model     string // contained in the model, likewise
	Component string // id or name, as the BMC calls it: "BIOS"
	Version   string
	URL       string // of the image; the BMC fetches it
}

// A FirmwareChange is a component that has not the version that it shall have.
type FirmwareChange struct {
	Component, Is, Want string
	URL                 string
	Missing             bool // the machine has no such component
}

// FirmwareState is how far an update is.
type FirmwareState string

// The states of an update.
const (
	FirmwareDiffers FirmwareState = "differs"
	FirmwareWaits   FirmwareState = "waiting" // for those before it
	FirmwareRunning FirmwareState = "running"
	FirmwareRestart FirmwareState = "restart needed" // installed, counts from the next start on
	FirmwareDone    FirmwareState = "done"           // read back
	FirmwareFailed  FirmwareState = "failed"
)

// A FirmwareUpdate is a change, and how far it is.
type FirmwareUpdate struct {
	FirmwareChange
	State   FirmwareState
	Percent int
	Error   string
}

// UpdateOptions say which firmware is updated, and what that may do to the
// machine.
type UpdateOptions struct {
	Component string // "": all
	Restart   bool   // where a version counts from the next start on
	Force     bool   // also when it serves its cluster
}

// A FirmwareJob is one update, with how far it has come: what has to be known
// to go on with it, so that no image is started twice.
type FirmwareJob struct {
	FirmwareChange
	Stage  JobStage
	At     time.Time // when the stage began
	Task   string    // where the BMC says how far it is; "" while that is not known
	Before []string  // the tasks that the BMC had before
	Listed bool      // it lists its tasks, so that a new one is found
}

// A JobStage is how far a [FirmwareJob] is.
type JobStage string

// The stages, in order.
const (
	JobNew       JobStage = ""
	JobAsked     JobStage = "asked"     // the BMC is being asked; whether it has heard, its tasks tell
	JobRunning   JobStage = "running"   // the BMC works on it
	JobInstalled JobStage = "installed" // it counts already, or from the next start on
	JobRestarted JobStage = "restarted" // the machine was restarted for it
)

// FirmwareOf returns what machines of a model shall have: of targets that are
// there twice for a component, the later one, in the place of the first.
func (s Site) FirmwareOf(vendor, model string) (targets []FirmwareTarget) {
	for _, t := range s.Firmware {
		if !containsFold(vendor, t.Vendor) || !containsFold(model, t.Model) {
			continue
		}
		same := func(x FirmwareTarget) bool { return strings.EqualFold(x.Component, t.Component) }
		if i := slices.IndexFunc(targets, same); i >= 0 {
			targets[i] = t
			continue
		}
		targets = append(targets, t)
	}
	return targets
}

// FirmwareDiff returns which components of a machine have not the version that
// they shall have, in the order in which that is declared.
func (s Site) FirmwareDiff(vendor, model string, have []Firmware) (changes []FirmwareChange) {
	for _, t := range s.FirmwareOf(vendor, model) {
		c := FirmwareChange{Component: t.Component, Want: t.Version, URL: t.URL, Missing: true}
		for _, f := range have {
			if strings.EqualFold(f.ID, t.Component) || strings.EqualFold(f.Name, t.Component) {
				c.Component, c.Is, c.Missing = cmp.Or(f.ID, t.Component), f.Version, false
				break
			}
		}
		if c.Is != c.Want {
			changes = append(changes, c)
		}
	}
	return changes
}

func (s Site) validateFirmware() error {
	var errs []error
	for i, t := range s.Firmware {
		on := fmt.Sprintf("firmware[%d]", i)
		if t.Vendor == "" && t.Model == "" {
			errs = append(errs, Invalidf(on, "say which machines it is for: vendor or model", errors.New("firmware of no machine")))
		}
		for key, value := range map[string]string{"component": t.Component, "version": t.Version} {
			if value == "" || CleanText(value) != value {
				errs = append(errs, Invalidf(on+"."+key, "write it as the BMC does: provision bmc show NODE", fmt.Errorf("%s %q", key, clip(value, 80))))
			}
		}
		u, err := url.Parse(t.URL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
			errs = append(errs, Invalidf(on+".url", "write http://… or https://… that the BMC can fetch", fmt.Errorf("URL %q", clip(t.URL, 120))))
		}
	}
	return errors.Join(errs...)
}
