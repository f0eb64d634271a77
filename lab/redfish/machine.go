package redfish

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// A Machine is what a [System] has behind it. It is asked by several requests
// at the same time.
type Machine interface {
	On(ctx context.Context) (bool, error)
	Do(ctx context.Context, s Switch) error
	// Boot is the override for the starts to come. A machine that has started
	// with one that holds once has none any more.
	Boot(ctx context.Context) (Boot, error)
	SetBoot(ctx context.Context, b Boot) error
	// Insert puts an image into the virtual drive; "" takes it out.
	Insert(ctx context.Context, image string) error
	Media(ctx context.Context) (image string, err error)
}

// A Switch is something that a BMC can do to its machine.
type Switch string

// The switches.
const (
	PowerOn  Switch = "power on"
	PowerOff Switch = "power off" // the plug is pulled
	Reset    Switch = "reset"
	Press    Switch = "press" // the power button, for a moment: the system is asked to shut down
	NMI      Switch = "nmi"
)

// ErrOff says that a machine that is off cannot do that.
var ErrOff = errors.New("the machine is off")

// A Boot is an override of what a machine boots, in the words of the schema
// ComputerSystem.
type Boot struct {
	Enabled string `json:"enabled"`       // Disabled, Once, Continuous
	Target  string `json:"target"`        // None, Pxe, Hdd, Cd, UefiHttp, BiosSetup ...
	Mode    string `json:"mode"`          // UEFI, Legacy
	URL     string `json:"url,omitempty"` // for UefiHttp
}

// NoOverride is the boot order of the firmware.
var NoOverride = Boot{Enabled: "Disabled", Target: "None", Mode: "UEFI"}

// After returns what is left of the override when a machine has started.
func (b Boot) After() Boot {
	if b.Enabled == "Continuous" {
		return b
	}
	return Boot{Enabled: "Disabled", Target: "None", Mode: b.Mode}
}

// Memory is a machine that only remembers what was done to it. The zero value
// is one that is off.
type Memory struct {
	mu    sync.Mutex
	on    bool
	deaf  bool
	boot  Boot
	media string
	boots []Boot
	nmis  int
}

// On tells whether it is on.
func (m *Memory) On(context.Context) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.on, nil
}

// IsOn is On for those who know that there is no error.
func (m *Memory) IsOn() bool {
	on, _ := m.On(context.Background())
	return on
}

// Do moves a switch.
func (m *Memory) Do(_ context.Context, s Switch) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch s {
	case PowerOn:
		if !m.on {
			m.start()
		}
	case PowerOff:
		m.on = false
	case Press:
		m.on = m.on && m.deaf
	case Reset:
		if !m.on {
			return ErrOff
		}
		m.start()
	case NMI:
		if !m.on {
			return ErrOff
		}
		m.nmis++
	}
	return nil
}

// start boots: with the lock held.
func (m *Memory) start() {
	m.on = true
	m.boots = append(m.boots, m.override())
	m.boot = m.override().After()
}

func (m *Memory) override() Boot {
	if m.boot == (Boot{}) {
		return NoOverride
	}
	return m.boot
}

// Boot returns the override for the next start.
func (m *Memory) Boot(context.Context) (Boot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.override(), nil
}

// SetBoot sets the override.
func (m *Memory) SetBoot(_ context.Context, b Boot) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.boot = b
	return nil
}

// Insert puts an image into the drive.
func (m *Memory) Insert(_ context.Context, image string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.media = image
	return nil
}

// Media returns the image in the drive.
func (m *Memory) Media(context.Context) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.media, nil
}

// IgnoreButton is an operating system that does not listen to the power
// button.
func (m *Memory) IgnoreButton(ignore bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.deaf = ignore
}

// Boots returns with which override each start was made.
func (m *Memory) Boots() []Boot {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.boots)
}

// NMIs returns how often the machine was interrupted.
func (m *Memory) NMIs() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.nmis
}
