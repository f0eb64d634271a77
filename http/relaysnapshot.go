package http

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

// sendSnapshot answers with what a relay needs to know while we are away. One
// that has it already is told so; as long as nothing has changed since it was
// made, it is not even made again.
func (s *Server) sendSnapshot(c echo.Context) error {
	req := c.Request()
	relay, have := callerOf(req.Context()).relay, req.Header.Get("If-None-Match")
	files, err := s.manifest.files(req.Context(), s.bootDir)
	if err != nil {
		return err
	}
	made := madeSnapshot{subnets: relay.Subnets, files: files, changed: s.o.Engine.Changed(), at: s.o.Now()}
	if tag, ok := s.snapshots.tag(relay.Name, made); ok && have == tag {
		c.Response().Header().Set("ETag", tag)
		return c.NoContent(http.StatusNotModified)
	}
	raw, err := json.Marshal(s.snapshot(relay, files.list))
	if err != nil {
		return err
	}
	sum := sha256.Sum256(raw)
	made.tag = `"` + hex.EncodeToString(sum[:16]) + `"`
	s.snapshots.keep(relay.Name, made)
	c.Response().Header().Set("ETag", made.tag)
	if have == made.tag {
		return c.NoContent(http.StatusNotModified)
	}
	return c.JSONBlob(http.StatusOK, raw)
}

// snapshotLife is how soon a snapshot is made again although no node has
// changed: leases change as well, and say nothing.
const snapshotLife = time.Minute

// snapshots knows what the last snapshot of each relay was made of.
type snapshots struct {
	mu   sync.Mutex
	made map[string]madeSnapshot
}

type madeSnapshot struct {
	tag     string
	subnets []string        // of the relay
	files   *fileList       // the boot files
	changed <-chan struct{} // closed when a node or the site is another
	at      time.Time
}

// tag returns the tag of the last snapshot, if one made now would be the same.
func (s *snapshots) tag(relay string, now madeSnapshot) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last, ok := s.made[relay]
	same := ok && last.files == now.files && last.changed == now.changed && slices.Equal(last.subnets, now.subnets)
	return last.tag, same && now.at.Sub(last.at) < snapshotLife
}

func (s *snapshots) keep(relay string, made madeSnapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, m := range s.made { // of relays that ask no more
		if made.at.Sub(m.at) > time.Hour {
			delete(s.made, name)
		}
	}
	if s.made == nil {
		s.made = map[string]madeSnapshot{}
	}
	s.made[relay] = made
}

func (s *Server) snapshot(relay fleet.Relay, files []api.RelayFile) api.RelaySnapshot {
	out := api.RelaySnapshot{
		Name: relay.Name, BootPort: s.o.BootPort, AgentPort: s.o.AgentPort, OnePort: s.o.OnePort, DUID: hex.EncodeToString(s.o.DUID),
		Subnets: []api.RelaySubnet{}, Nodes: []api.RelayNode{}, Files: files,
	}
	if out.BootPort == 0 {
		out.BootPort = 80
	}
	for _, n := range s.o.Engine.Site().Subnets {
		if relay.Serves(n.Name) {
			out.Subnets = append(out.Subnets, fromRelaySubnet(n))
		}
	}
	for _, n := range s.o.Engine.Nodes() {
		if node, ok := s.relayNode(relay, n); ok {
			out.Nodes = append(out.Nodes, node)
		}
	}
	return out
}

func fromRelaySubnet(n fleet.Subnet) api.RelaySubnet {
	return api.RelaySubnet{
		Name: n.Name, CIDR: n.CIDR, Serves: n.Mode.GivesAddresses(),
		Router: n.Router, DNS: n.DNS, NTP: n.NTP, Domain: n.Domain, MTU: n.MTU, SLAAC: n.SLAAC,
	}
}

// relayNode is a node that somebody let in and that has an address on one of the
// relay's subnets.
func (s *Server) relayNode(relay fleet.Relay, n fleet.Node) (api.RelayNode, bool) {
	if n.State == "" || n.State == fleet.Discovered || n.State == fleet.Retired {
		return api.RelayNode{}, false
	}
	addrs := s.addrsAt(relay, n)
	if !addrs[0].IsValid() {
		return api.RelayNode{}, false
	}
	out := api.RelayNode{
		ID: string(n.ID), Name: n.Name, MACs: []string{string(n.MAC)}, State: string(n.State), Addr: addrs[0], Other: addrs[1],
		Installed: !n.System.InstalledAt.IsZero(),
	}
	for _, m := range n.MACs {
		if m != n.MAC {
			out.MACs = append(out.MACs, string(m))
		}
	}
	return out, true
}

// addrsAt are a node's addresses on the relay's subnets, one of each family at
// most: first the one that is stored for it, unless another machine holds that by
// now, and then what it holds itself.
func (s *Server) addrsAt(relay fleet.Relay, n fleet.Node) (addrs [2]netip.Addr) {
	if n.Addr.IsValid() && s.speaksFor(relay, n.Addr) && !s.anotherHolds(n) {
		addrs[0] = n.Addr
	}
	if s.o.Held == nil {
		return addrs
	}
	macs := n.MACs // all of its cards, as a rule
	if !slices.Contains(macs, n.MAC) {
		macs = append([]fleet.MAC{n.MAC}, macs...)
	}
	for _, a := range s.o.Held.AddrsOf(macs...) {
		switch {
		case !s.speaksFor(relay, a):
		case !addrs[0].IsValid():
			addrs[0] = a
		case !addrs[1].IsValid() && addrs[0].Is4() != a.Is4():
			addrs[1] = a
		}
	}
	return addrs
}

func (s *Server) anotherHolds(n fleet.Node) bool {
	if s.o.Leases == nil {
		return false
	}
	lease, held := s.o.Leases.LeaseByAddr(n.Addr)
	return held && lease.MAC != n.MAC && !slices.Contains(n.MACs, lease.MAC)
}
