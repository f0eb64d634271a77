package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/store"
)

// A hall is machines that the program knows before its first start: nodes in
// one state, each with a lease of its address.
type hall struct {
	dir   string // what the program keeps of them
	state fleet.State
}

const hallSize = 16_384

// hallSite lets the program give out the addresses of the machines itself: what
// a request says of its machine is compared with the lease of its address.
const hallSite = `subnets:
  - name: bench
    cidr: 10.0.0.0/8
    mode: full
    ranges: [10.64.0.1-10.64.255.254]
    lease: 1h
    server: 10.0.0.1
`

// hallAddr and hallMAC are the machine with a number, from 0.
func hallAddr(n uint32) netip.Addr {
	base := stormRange.Addr().As4()
	n++ // not the address of the network
	return netip.AddrFrom4([4]byte{base[0], base[1], byte(n >> 8), byte(n)})
}

func hallMAC(n uint32) net.HardwareAddr {
	return net.HardwareAddr{0x52, 0x54, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
}

// hall stores them.
func (b *bench) hall(ctx context.Context, state fleet.State) (*hall, error) {
	dir, err := b.tempDir("hall")
	if err != nil {
		return nil, err
	}
	db, err := store.Open(ctx, filepath.Join(dir, "provision.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	var nodes []fleet.Node
	var leases []fleet.Lease
	for n := range uint32(hallSize) {
		mac, err := fleet.ParseMAC(hallMAC(n).String())
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, fleet.Node{
			ID: fleet.NodeID(fmt.Sprintf("n-%010x", n)), MAC: mac, MACs: []fleet.MAC{mac}, Addr: hallAddr(n), State: state,
			FirstSeen: now, LastSeen: now, Revision: 1, BMC: fleet.BMC{CipherSuite: -1},
		})
		leases = append(leases, fleet.Lease{Addr: hallAddr(n), MAC: mac, Subnet: "bench", State: fleet.LeaseBound, Expires: now.Add(2 * time.Hour)})
	}
	err = errors.Join(db.Save(ctx, fleet.Change{Nodes: nodes}), db.SaveLeases(ctx, leases), db.Close()) //nolint:contextcheck // nothing ends the closing early
	return &hall{dir, state}, err
}

// copyTo puts them into a state folder. Nobody's hall is empty.
func (h *hall) copyTo(dir string) error {
	if h == nil {
		return nil
	}
	return fs.WalkDir(os.DirFS(h.dir), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		raw, err := os.ReadFile(filepath.Join(h.dir, name))
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, name), raw, 0o600)
	})
}

// what says what is asked for.
func (h *hall) what() string {
	if h == nil {
		return "file"
	}
	return "script of " + strings.ToLower(string(h.state)) + " nodes"
}
