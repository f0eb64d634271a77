package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/rackstage/provision/lab/redfish"
)

const redfishPort = ":443"

// serveRedfish is the machine's BMC, for as long as the process lives.
func (b *bay) serveRedfish(ctx context.Context, address string) error {
	m := b.Machine
	s := redfish.New(redfish.Options{
		Systems: []redfish.System{{ID: redfishSystem, Machine: &plug{b}, Facts: m.facts()}},
		Vendor:  m.Vendor, Username: m.BMC.Username, Password: m.BMC.Password, FaultFile: b.path(redfishFault),
		Fetch: b.fetch, Elsewhere: b.simUsers, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	v, err := redfish.Listen(ctx, address, s)
	if err != nil {
		return err
	}
	<-ctx.Done()
	return v.Close()
}

// redfishSystem is the id of the one system of each BMC.
const redfishSystem = "System.Embedded.1"

// facts are what Redfish says about the machine: what inventory finds in it.
func (m Machine) facts() redfish.Facts {
	return redfish.Facts{
		UUID: m.UUID, Serial: m.Serial, AssetTag: m.AssetTag, Vendor: m.Vendor, Model: m.Product, Host: m.Name,
		CPU: "QEMU", ARM: kits[m.Firmware].arm64, CPUs: m.CPUs, MemoryMiB: m.MemoryMiB,
		NICs:  []redfish.NIC{{ID: "NIC.1", MAC: m.MAC, Mbit: 1000, Link: true}},
		Disks: []redfish.Disk{{ID: "Disk.0", Model: "QEMU", Serial: m.DiskSerial, Revision: "1", Protocol: "SATA", Media: "SSD", Bytes: int64(m.DiskMiB) << 20}},
	}
}

func (b *bay) awaitRedfish(ctx context.Context) error {
	for ctx.Err() == nil {
		conn, err := b.Namespace.dial(ctx, "tcp", b.Machine.BMC.Address.String()+redfishPort)
		if err == nil {
			return conn.Close()
		}
		if !b.alive(redfishPID) {
			t, _ := os.ReadFile(b.path(redfishLog))
			return fmt.Errorf("the BMC of %s ended: %s", b.Machine.Name, strings.TrimSpace(string(t)))
		}
		pause(ctx, 50*time.Millisecond)
	}
	return fmt.Errorf("the BMC of %s does not speak Redfish within %s; see %s", b.Machine.Name, bmcWithin, b.path(redfishLog))
}

// SetRedfishFaults lets a BMC's Redfish service misbehave from now on; the
// zero value ends it.
func (r *Rack) SetRedfishFaults(name string, f redfish.Faults) error {
	b, err := r.bay(name)
	if err != nil {
		return err
	}
	if !b.Machine.BMC.redfish() {
		return fmt.Errorf("the BMC of machine %s does not speak Redfish", name)
	}
	return writeJSON(b.path(redfishFault), f)
}

// A plug is the machine of a bay, as its Redfish service holds it.
type plug struct{ b *bay }

// On reports whether the machine is on.
func (p *plug) On(context.Context) (bool, error) { return p.b.running(), nil }

// Do moves a switch, in the words of the hook and with its faults.
func (p *plug) Do(ctx context.Context, s redfish.Switch) error {
	if (s == redfish.Reset || s == redfish.NMI) && !p.b.running() {
		return redfish.ErrOff
	}
	words := map[redfish.Switch]string{
		redfish.PowerOn: "power 1", redfish.PowerOff: "power 0", redfish.Reset: "reset 1", redfish.Press: "shutdown 1", redfish.NMI: "nmi 1",
	}
	return p.b.change(ctx, strings.Fields(words[s]))
}

// targets are the devices of an override as Redfish calls them.
var targets = map[string]string{"Pxe": bootPXE, "Hdd": "default", "Cd": bootCD, "BiosSetup": "bios", "UefiHttp": bootHTTP, "Usb": "usb"}

// Boot returns the override for the next start, whoever has set it.
func (p *plug) Boot(context.Context) (redfish.Boot, error) {
	o := p.b.boot()
	if o.Device == "" {
		return redfish.NoOverride, nil
	}
	boot := redfish.Boot{Enabled: "Once", Target: o.Redfish, Mode: or(o.Mode, redfish.NoOverride.Mode), URL: o.URL}
	if o.Always {
		boot.Enabled = "Continuous"
	}
	for name, device := range targets {
		if boot.Target == "" && device == o.Device {
			boot.Target = name
		}
	}
	return boot, nil
}

// SetBoot sets the override.
func (p *plug) SetBoot(_ context.Context, boot redfish.Boot) error {
	unlock, err := p.b.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if boot.Enabled == "Disabled" {
		return p.b.setBoot(override{})
	}
	return p.b.setBoot(override{
		Device: targets[boot.Target], Always: boot.Enabled == "Continuous", URL: boot.URL, Redfish: boot.Target, Mode: boot.Mode,
	})
}

// Media returns the image in the drive.
func (p *plug) Media(context.Context) (string, error) {
	if _, err := os.Stat(p.b.path(mediaFile)); err != nil {
		return "", nil //nolint:nilerr // there is none
	}
	return p.b.path(mediaFile), nil
}

// Insert puts the image that was fetched into the drive, or takes it out.
func (p *plug) Insert(ctx context.Context, image string) error {
	unlock, err := p.b.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if image == "" {
		err = p.b.remove(mediaFile)
	} else if err = os.Rename(image, p.b.path(mediaFile)); err != nil {
		err = fmt.Errorf("insert image: %w", err)
	}
	if err != nil || !p.b.running() {
		return err
	}
	m, err := p.b.control(ctx)
	if err != nil {
		return err
	}
	defer m.close()
	if image == "" {
		return m.do("eject", map[string]any{"id": "cd0", "force": true})
	}
	return m.do("blockdev-change-medium", map[string]any{
		"id": "cd0", "filename": p.b.path(mediaFile), "format": "raw", "force": true, "read-only-mode": "read-only",
	})
}

const (
	fetchWithin  = 5 * time.Minute
	largestImage = 4 << 30
)

// fetch gets the image for the drive.
func (b *bay) fetch(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchWithin)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", fmt.Errorf("fetch image: %w", err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(r)
	if err != nil {
		return "", fmt.Errorf("fetch image: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return "", fmt.Errorf("fetch image: the server says %s", answer.Status)
	}
	f, err := os.CreateTemp(b.dir, mediaFile)
	if err != nil {
		return "", fmt.Errorf("fetch image: %w", err)
	}
	n, err := io.Copy(f, io.LimitReader(answer.Body, largestImage+1))
	err = errors.Join(err, f.Close())
	if err == nil && n > largestImage {
		err = errors.New("the image is too large")
	}
	if err != nil {
		return "", errors.Join(fmt.Errorf("fetch image: %w", err), os.Remove(f.Name()))
	}
	return f.Name(), nil
}
