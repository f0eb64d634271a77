package main

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab"
)

// This file boots machines where most doors are closed: the subnet serves those
// that it knows, the firewall lets TFTP's own port pass and no other, and
// loaders are missing that some machines are told to load.

const (
	byReservation = "52:54:00:7e:00:01" // nobody has approved it
	byPool        = "52:54:00:7e:00:03"
	lacksOurs     = "52:54:00:7e:00:04" // somebody has deleted its loader
	lacksTheirs   = "52:54:00:7e:00:05" // nobody has put its loader there
	byNobody      = "52:54:00:7e:00:09"
)

const closedSite = `
stages: [{name: prd}]
profiles: [{name: docker, image: debian-12}]
pools: [{name: prd, stage: prd, profile: docker}]
subnets:
  - name: rack
    cidr: 10.77.0.0/24
    mode: reserved
    ranges: [10.77.0.100-10.77.0.200]
    lease: 1h
    reservations: [{mac: "` + byReservation + `", address: 10.77.0.20}]
quirks:
  - {mac: "` + byReservation + `", rechain: true, reason: its ROM is old}
  - {mac: "` + lacksOurs + `", loader: ipxe.efi, reason: its network driver hangs}
  - {mac: "` + lacksTheirs + `", loader: maker.efi, reason: its maker says so}
scripts:
  - name: words
    pools: [prd]
    grub: |
      echo "the words of {{.Pool}} for {{.Name}}, a {{.Product}}"
      source {{private "words.cfg"}}
      source {{.Agent}}
`

// closedBoots are watched until a loader has come and runs: what follows by HTTP
// is the matter of the matrix.
var closedBoots = map[string]boot{
	"bios-rom": { // as in the matrix, its ROM is taken for one that knows PXE only
		firmware: lab.BIOS, mac: byReservation,
		want: []string{"offered 10.77.0.20, undionly.kpxe", "loader: undionly.kpxe by TFTP", "agent.ipxe", "script: GET"},
	},
	"uefi": {
		firmware: lab.UEFI, mac: "52:54:00:7e:00:02", state: fleet.Ready,
		want: []string{"subnet rack: offered 10.77.0.1", "loader: snponly.efi by TFTP", "script: GET"},
	},
	"uefi-sb": {
		firmware: lab.SB, mac: byPool, state: fleet.Ready, pool: "prd", secure: true, product: "Locked 1U",
		want: []string{
			"loader: shimx64.efi by TFTP", "grubx64.efi by TFTP", "script: custom script for GRUB, by HTTP", "script: agent script for GRUB, by HTTP",
			"kernel: GET vmlinuz",
		},
		console: `(?s)the words of prd for uefi-sb, a Locked 1U.*words of a file that is given out once.*boots the agent from`,
	},
	"uefi-lacks": {
		firmware: lab.UEFI, mac: lacksOurs, state: fleet.Ready,
		want:  []string{"ipxe.efi (ready: boots our agent, its network driver hangs)", "ipxe.efi by TFTP: boot/ipxe.efi is not in ", "fetch it: provision images build loaders"},
		never: []string{"loader:", "script"}, console: "PXE-E23",
	},
	"uefi-http-lacks": {
		firmware: lab.UEFIHTTP, mac: lacksTheirs, state: fleet.Ready,
		want:  []string{"maker.efi (ready: boots our agent, its maker says so)", "HEAD maker.efi from 10.77.0.1"},
		never: []string{"loader:", "script"}, console: "HTTP server",
	},
}

func TestKnownMachinesBootThroughOnePortAndOthersHearNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("boots six virtual machines: make test runs it")
	}
	t.Parallel()
	r, ids := closedRack(t)
	drops := dropOtherPorts(t, r)
	stranger := bootStranger(t, r)
	seen := followEvents(t, r)
	t.Run("they", func(t *testing.T) {
		for _, lane := range [][]string{{"uefi-sb", "bios-rom"}, {"uefi-lacks", "uefi-http-lacks", "uefi"}} {
			t.Run(lane[0], func(t *testing.T) {
				t.Parallel()
				for _, name := range lane {
					t.Run(name, func(t *testing.T) { bootOnce(t, r, name, closedBoots[name], seen, ids[name]) })
				}
			})
		}
	})
	stranger(t)
	drops(t)
	checkLacks(t, r)
}

// closedRack raises a rack whose server sends all of TFTP from one port, and
// lacks two loaders.
func closedRack(t *testing.T) (*labRack, map[string]fleet.NodeID) {
	t.Helper()
	machines := []lab.Machine{{Name: "unknown", Firmware: lab.BIOS, MAC: byNobody, DiskMiB: 64, MemoryMiB: 256, CPUs: 1}}
	for _, name := range slices.Sorted(maps.Keys(closedBoots)) {
		b := closedBoots[name]
		machines = append(machines, lab.Machine{Name: name, Firmware: b.firmware, MAC: b.mac, DiskMiB: 64, MemoryMiB: 768, CPUs: 1})
	}
	state, program := testImages(t)
	site := strings.ReplaceAll(closedSite, "{{", `{{"{{"}}`) // what is in it is for the server to fill in
	var ids map[string]fleet.NodeID
	r := prepareTestRack(t, labPlan{state: state, machines: machines, site: site, hook: program}, func(r *labRack) (err error) {
		if ids, err = knowMachines(t, r, closedBoots); err != nil {
			return err
		}
		folder, err := ownBoot(r)
		private := filepath.Join(r.dir, "state", "private")
		return errors.Join(err, os.Remove(filepath.Join(folder, "ipxe.efi")), os.MkdirAll(private, 0o700),
			os.WriteFile(filepath.Join(private, "words.cfg"), []byte("echo words of a file that is given out once\n"), 0o600), onePort(r))
	})
	if err := r.applySite(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r, ids
}

func onePort(r *labRack) error {
	f, err := os.OpenFile(filepath.Join(r.dir, "provision.yaml"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString("tftp: {single_port: true}\n")
	return errors.Join(err, f.Close())
}

// dropOtherPorts puts a firewall between the server and its machines that drops
// UDP from all ports but those of DHCP and TFTP. Its result says that it had
// nothing to drop.
func dropOtherPorts(t *testing.T, r *labRack) (check func(*testing.T)) {
	t.Helper()
	nft := func(t *testing.T, rules string) string {
		t.Helper()
		cmd := r.rack.Command(t.Context(), "nft", "-f", "-")
		cmd.Stdin = strings.NewReader(rules)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("nft: %v: %s", err, out)
		}
		return string(out)
	}
	nft(t, `
table ip guard {
	chain out {
		type filter hook output priority 0;
		oifname "`+lab.Bridge+`" udp sport 69 counter accept
		oifname "`+lab.Bridge+`" udp sport != { 67, 4011 } counter drop
	}
}
`)
	conn, err := r.rack.Dial(t.Context(), "udp", "10.77.0.250:2000")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("a block")); !errors.Is(err, syscall.EPERM) {
		t.Fatalf("sending from another port = %v, want the firewall to drop it", err)
	}
	return func(t *testing.T) {
		t.Helper()
		text := nft(t, "list chain ip guard out\n")
		counted := regexp.MustCompile(`counter packets (\d+)`).FindAllStringSubmatch(text, -1)
		if len(counted) != 2 {
			t.Fatalf("nft shows %s", text)
		}
		passed, _ := strconv.ParseInt(counted[0][1], 10, 64) // digits
		t.Logf("%d packets came from port 69", passed)
		if least := blocksOf(t, r, "undionly.kpxe", "snponly.efi", "shimx64.efi", "grubx64.efi"); passed < least {
			t.Errorf("%d packets came from port 69, want %d of the loaders alone", passed, least)
		}
		if dropped := counted[1][1]; dropped != "1" { // ours
			t.Errorf("%s packets from other ports were dropped, want the test's own only", dropped)
		}
	}
}

// blocksOf is in how many packets files come, if all of their blocks are as
// large as the network takes.
func blocksOf(t *testing.T, r *labRack, files ...string) (blocks int64) {
	t.Helper()
	for _, name := range files {
		about, err := os.Stat(filepath.Join(r.dir, "state", "boot", name))
		if err != nil {
			t.Fatal(err)
		}
		blocks += about.Size() / 1468
	}
	return blocks
}

// bootStranger switches a machine on that nobody knows. Its result says that it
// asked, and that nothing came back to it.
func bootStranger(t *testing.T, r *labRack) (check func(*testing.T)) {
	t.Helper()
	var asked atomic.Int64
	var answer atomic.Pointer[[]byte]
	mac := fleet.MAC(byNobody).Hardware()
	ctx, cancel := context.WithCancel(t.Context())
	wait, err := r.rack.Capture(ctx, func(_ time.Time, frame []byte) {
		switch {
		case !bytes.Contains(frame, mac), saysNoRouter(frame):
		case bytes.HasPrefix(frame[6:], mac):
			asked.Add(1)
		default:
			answer.Store(new(bytes.Clone(frame)))
		}
	})
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(cancel)
	if err := errors.Join(netBoot(ctx, r, "unknown"), r.rack.PowerOn(ctx, "unknown")); err != nil {
		t.Fatal(err)
	}
	return func(t *testing.T) {
		t.Helper()
		defer cancel()
		limit, stop := context.WithTimeout(ctx, 2*time.Minute)
		defer stop()
		waitConsole(limit, t, r, "unknown", "No bootable device")
		if err := r.rack.PowerOff("unknown"); err != nil {
			t.Error(err)
		}
		n, err := r.client.Counters(ctx)
		if err != nil || n["provision_dhcp_unapproved_total"] == 0 {
			t.Errorf("counters %v, %v; want its requests among the unapproved", n, err)
		}
		if nodes, err := r.client.AllNodes(ctx, ""); err != nil || len(nodes) != len(closedBoots) {
			t.Errorf("there are %d nodes, %v; want those that were known", len(nodes), err)
		}
		cancel()
		if err := wait(); err != nil {
			t.Error(err)
		}
		if asked.Load() == 0 {
			t.Error("the stranger asked nothing")
		}
		if frame := answer.Load(); frame != nil {
			t.Errorf("this went to the stranger: %x", *frame)
		}
	}
}

// saysNoRouter reports whether a frame is a router advertisement of IPv6 with
// nothing in it: it ends iPXE's wait for one, whoever asks.
func saysNoRouter(frame []byte) bool {
	const head, bare, icmp, advertisement = 14 + 40, 16, 58, 134
	if len(frame) < head+bare || !bytes.Equal(frame[12:14], []byte{0x86, 0xdd}) || frame[20] != icmp || frame[head] != advertisement {
		return false
	}
	options, flags, lifetime := frame[head+bare:], frame[head+5], frame[head+6:head+8]
	return flags == 0 && bytes.Equal(lifetime, []byte{0, 0}) && len(bytes.Trim(options, "\x00")) == 0 // padding of short frames
}

// checkLacks compares the alarms: those of the two files, and no other.
func checkLacks(t *testing.T, r *labRack) {
	t.Helper()
	list, err := r.client.Alarms(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"E-BOOT-NO-LOADER loader ipxe.efi":   "fetch it: provision images build loaders (for 32-bit UEFI there is none: set such a machine to BIOS): loader ipxe.efi",
		"E-BOOT-FILE maker.efi of quirks[2]": "put it into the folder that the detail names (kernel and ramdisk come from provision images build debian-12), or take it out of site.yaml: maker.efi of quirks[2]",
	}
	got := map[string]string{}
	for _, a := range list {
		got[a.Code+" "+a.On] = a.Fix
	}
	if !maps.Equal(got, want) {
		t.Errorf("alarms %q, want %q", got, want)
	}
}
