package relay

import (
	"encoding/hex"
	"errors"
	"io/fs"
	"log/slog"
	"net/netip"
	"path/filepath"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/dhcp"
	"github.com/rackstage/provision/dhcp/dhcp6"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/http/bootfile"
)

// knowledge is what the server told us last, ready for use. It is never
// changed: what is newer takes its place.
type knowledge struct {
	tag    string // of the snapshot that it was made from
	said   api.RelaySnapshot
	byMAC  nodesOf // as IPv4 knows them
	byMAC6 nodesOf // as IPv6 does
	byAddr map[netip.Addr]fleet.Node
	files  map[string]api.RelayFile
	stand  *dhcp.StandIn
	stand6 *dhcp6.StandIn
	six    []fleet.Subnet // those of IPv6 that are served
}

// kept is a snapshot in the state folder.
type kept struct {
	Tag      string            `json:"tag"`
	Snapshot api.RelaySnapshot `json:"snapshot"`
}

// understand makes knowledge of a snapshot. What makes no sense in it is left
// out, and the rest is used.
func understand(s api.RelaySnapshot, tag string, ifaces []string, log *slog.Logger) (*knowledge, error) {
	k := &knowledge{
		tag: tag, said: s,
		byMAC: nodesOf{}, byMAC6: nodesOf{}, byAddr: map[netip.Addr]fleet.Node{}, files: map[string]api.RelayFile{},
	}
	for _, f := range s.Files {
		if bootfile.IsHash(f.SHA256) && f.Size >= 0 && fs.ValidPath(f.Name) {
			k.files[f.Name] = f
		}
	}
	for _, n := range s.Nodes {
		node := toNode(n)
		four, six := node, node
		if other := n.Other.Unmap(); other.Is4() {
			four.Addr = other
		} else if other.IsValid() {
			six.Addr = other
		}
		for _, n := range []fleet.Node{four, six} {
			if n.Addr.IsValid() {
				k.byAddr[n.Addr] = n
			}
		}
		for _, m := range node.MACs {
			k.byMAC[m], k.byMAC6[m] = four, six
		}
	}
	var subnets []fleet.Subnet
	for _, n := range s.Subnets {
		known := fleet.Subnet{Name: n.Name, CIDR: n.CIDR, Mode: fleet.Reserved, Router: n.Router, DNS: n.DNS, NTP: n.NTP, Domain: n.Domain, MTU: n.MTU, SLAAC: n.SLAAC}
		switch {
		case !n.Serves || !n.CIDR.IsValid():
		case n.CIDR.Addr().Is4():
			subnets = append(subnets, known)
		default:
			k.six = append(k.six, known)
		}
	}
	var err error
	if k.stand, err = dhcp.NewStandIn(dhcp.StandInOptions{Subnets: subnets, Interfaces: ifaces, HTTPPort: s.BootPort, Nodes: k.byMAC, Log: log}); err != nil {
		return nil, err
	}
	duid, _ := hex.DecodeString(s.DUID) // an older server has told none: nobody stands in for it
	six := k.six
	if len(duid) == 0 {
		six = nil // an older server: its clients would not take our answers for its own
	}
	k.stand6, err = dhcp6.NewStandIn(dhcp6.StandInOptions{DUID: duid, Subnets: six, Interfaces: ifaces, HTTPPort: s.BootPort, Nodes: k.byMAC6, Log: log})
	return k, err
}

func toNode(n api.RelayNode) fleet.Node {
	out := fleet.Node{ID: fleet.NodeID(n.ID), Name: n.Name, State: fleet.State(n.State), Addr: n.Addr.Unmap(), Approved: true}
	for _, m := range n.MACs {
		if mac, err := fleet.ParseMAC(m); err == nil {
			out.MACs = append(out.MACs, mac)
		}
	}
	if len(out.MACs) > 0 {
		out.MAC = out.MACs[0]
	}
	if n.Installed {
		out.System.InstalledAt = longAgo
	}
	return out
}

// refresh reads the addresses of our interfaces again, for those who stand in.
func (k *knowledge) refresh() error { return errors.Join(k.stand.Refresh(), k.stand6.Refresh()) }

// nodesOf are nodes by their MAC addresses, each with the address that it has of
// one family, if it has one.
type nodesOf map[fleet.MAC]fleet.Node

// NodeByMAC implements dhcp.Nodes and dhcp6.Nodes.
func (m nodesOf) NodeByMAC(mac fleet.MAC) (fleet.Node, bool) {
	n, ok := m[mac]
	return n, ok
}

// subnetOf returns the name of the subnet that an address is in.
func (k *knowledge) subnetOf(a netip.Addr) (string, bool) {
	for _, n := range k.said.Subnets {
		if n.CIDR.Contains(a) {
			return n.Name, true
		}
	}
	return "", false
}

// isOnSubnet reports whether a machine that boots can have an address: TFTP is
// silent to all others.
func (k *knowledge) isOnSubnet(a netip.Addr) bool {
	if k == nil {
		return false
	}
	_, ok := k.subnetOf(a)
	return ok || a.Is6() && a.IsLinkLocalUnicast()
}

func readSnapshot(dir string) (kept, error) {
	var k kept
	err := readJSON(filepath.Join(dir, snapshotFile), &k)
	if errors.Is(err, fs.ErrNotExist) {
		return kept{}, nil
	}
	if err != nil {
		return kept{}, err
	}
	return k, nil
}
