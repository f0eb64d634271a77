package store_test

import (
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/store"
)

var asWritten = cmp.Options{cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmpopts.EquateEmpty()}

func open(tb testing.TB, path string) *store.Store {
	tb.Helper()
	s, err := store.Open(tb.Context(), path, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatalf("Open: %v", err)
	}
	return s
}

func fresh(tb testing.TB) (*store.Store, string) {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "provision.db")
	s := open(tb, path)
	tb.Cleanup(func() { closeStore(tb, s) })
	return s, path
}

func closeStore(tb testing.TB, s *store.Store) {
	tb.Helper()
	if err := s.Close(); err != nil {
		tb.Errorf("Close: %v", err)
	}
}

func save(tb testing.TB, s *store.Store, c fleet.Change) {
	tb.Helper()
	if err := s.Save(tb.Context(), c); err != nil {
		tb.Fatalf("Save: %v", err)
	}
}

func load(tb testing.TB, s *store.Store) fleet.World {
	tb.Helper()
	w, err := s.Load(tb.Context())
	if err != nil {
		tb.Fatalf("Load: %v", err)
	}
	return w
}

var when = time.Date(2026, 11, 21, 12, 0, 0, 123456789, time.UTC)

// node returns the i-th of many nodes, with an inventory as real ones have.
func node(i int) fleet.Node {
	mac := fleet.MAC(fmt.Sprintf("52:54:00:%02x:%02x:%02x", i>>16&255, i>>8&255, i&255))
	return fleet.Node{
		ID: fleet.NodeID(fmt.Sprintf("n-%010x", i)), Name: fmt.Sprintf("prd-%d", i), MAC: mac, MACs: []fleet.MAC{mac},
		UUID: fmt.Sprintf("4c4c4544-0042-3510-8053-%012x", i), Addr: netip.AddrFrom4([4]byte{10, 77, byte(i >> 8), byte(i)}),
		Trust: fleet.T1, Stage: "prd", Pool: "prd", Role: fleet.Worker, Labels: map[string]string{"rack": "r1"},
		State: fleet.Installing, Phase: fleet.PhaseWrite, Progress: 42, Run: "prd-1",
		Failure:   fleet.Failure{Code: "E-X", Phase: fleet.PhaseDisk, Text: "text", Hint: "hint"},
		BMC:       fleet.BMC{Address: "10.77.1.11", Username: "admin", SealedPassword: "sealed", CipherSuite: 17},
		Inventory: inventory(mac),
		System:    fleet.System{Image: "debian-12", Digest: "sha256:00", Profile: "docker", Revision: "r", Disk: "wwn-1", InstalledAt: when},
		Member:    fleet.Member{Cluster: "c", NodeID: "m", Role: fleet.Worker, ConfirmedAt: when},
		FirstSeen: when, LastSeen: when.Add(time.Minute), Approved: true, Revision: 1,
	}
}

func inventory(mac fleet.MAC) fleet.Inventory {
	inv := fleet.Inventory{
		Vendor: "Dell Inc.", Product: "PowerEdge R650", Serial: "ABC1234", AssetTag: "rack-17", Firmware: "uefi", BIOS: "1.2.3", Secure: true,
		CPU: fleet.CPU{Model: "Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz", Sockets: 2, Cores: 64, Threads: 128}, MemoryMiB: 262144,
		BMC: fleet.InventoryBMC{Present: true, Address: "10.77.1.11", MAC: "52:54:00:aa:aa:aa"}, TPM: "2.0", Arch: "amd64",
	}
	for i := range 4 {
		inv.Disks = append(inv.Disks, fleet.Disk{
			ID: fmt.Sprintf("wwn-0x5000c500a1b2c3d%d", i), Name: fmt.Sprintf("sd%c", 'a'+i), Model: "SAMSUNG MZ7LH960", Serial: fmt.Sprintf("S45NNA0N10000%d", i),
			Bytes: 960197124096, Rotational: i > 1, Removable: i > 2, ReadOnly: i > 2, Holds: "gpt",
		})
		inv.NICs = append(inv.NICs, fleet.NIC{
			Name: fmt.Sprintf("eth%d", i), MAC: mac, Driver: "ice", Up: i == 0, Speed: 25000,
			LLDP: fleet.LLDP{Chassis: "aa:bb:cc:dd:ee:ff", Port: fmt.Sprintf("Ethernet1/%d", i), System: "leaf-1"},
		})
	}
	return inv
}

func site() *fleet.Site {
	return &fleet.Site{
		Stages:   []fleet.Stage{{Name: "prd", Registry: "dckhub.prd:5000"}},
		Pools:    []fleet.Pool{{Name: "prd", Stage: "prd", Profile: "docker", Cluster: fleet.Swarm, Managers: 1, Labels: map[string]string{"a": "b"}, Trust: fleet.T1}},
		Profiles: []fleet.Profile{{Name: "docker", Image: "debian-12", Disk: fleet.DiskRule{MinGiB: 8, Type: "ssd"}, SSHKey: []string{"ssh-ed25519 AAAA x"}, Kernel: []string{"quiet"}}},
		Subnets: []fleet.Subnet{{
			Name: "rack", CIDR: netip.MustParsePrefix("10.77.0.0/24"), Mode: fleet.Full, Router: netip.MustParseAddr("10.77.0.1"),
			Ranges: []fleet.AddrRange{{First: netip.MustParseAddr("10.77.0.50"), Last: netip.MustParseAddr("10.77.0.99")}},
			DNS:    []netip.Addr{netip.MustParseAddr("10.77.0.1")}, Domain: "lab", Lease: 600,
		}},
		Rules: []fleet.Rule{{
			Name: "all", Match: fleet.Match{MACPrefix: "52:54:00", MinMemoryMiB: 512}, Pool: "prd", Approve: true,
			BMC: fleet.BMCAccess{Username: "admin", PasswordFile: "bmc", SealedPassword: "sealed"},
		}},
	}
}

func run(id fleet.RunID, nodes int) fleet.Run {
	r := fleet.Run{ID: id, Pool: "prd", Plan: "0123", Key: "k", Actor: "admin", State: fleet.RunRunning, Started: when}
	for i := range nodes {
		r.Nodes = append(r.Nodes, fleet.RunNode{
			Node: node(i).ID, Class: fleet.Add, Name: node(i).Name, Role: fleet.Worker, State: fleet.RunRunning, Phase: fleet.PhaseWrite, Attempt: 1,
			Failure: fleet.Failure{Code: "E-X"}, Times: []fleet.PhaseTime{{Phase: fleet.PhasePower, At: when}, {Phase: fleet.PhaseDHCP, At: when.Add(time.Second)}}, Started: when,
			Job: &fleet.FirmwareJob{
				FirmwareChange: fleet.FirmwareChange{Component: "BIOS", Is: "1.0", Want: "2.1", URL: "http://10.77.0.1/bios-2.1.bin"},
				Stage:          fleet.JobRunning, At: when, Task: "/redfish/v1/TaskService/Tasks/7", Before: []string{"/redfish/v1/TaskService/Tasks/6"}, Listed: true,
			},
			Restarted: when, Notes: []string{"firmware of GPU left as it is"},
		})
	}
	return r
}

func event(seq int64) fleet.Event {
	return fleet.Event{Seq: seq, At: when, Type: fleet.EventChanged, Node: "n-1", Pool: "prd", Run: "prd-1", Actor: "engine", Text: fmt.Sprintf("event %d", seq)}
}
