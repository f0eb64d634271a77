package http

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
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
		Name: n.Name, CIDR: n.CIDR, Serves: n.Mode == fleet.Full || n.Mode == fleet.Reserved,
		Router: n.Router, DNS: n.DNS, NTP: n.NTP, Domain: n.Domain, MTU: n.MTU, SLAAC: n.SLAAC,
	}
}

// relayNode is a node that somebody let in and that has its address on one of
// the relay's subnets. An address that another machine holds by now is not
// this node's any more.
func (s *Server) relayNode(relay fleet.Relay, n fleet.Node) (api.RelayNode, bool) {
	if n.State == "" || n.State == fleet.Discovered || n.State == fleet.Retired || !n.Addr.IsValid() || !s.speaksFor(relay, n.Addr) {
		return api.RelayNode{}, false
	}
	if s.o.Leases != nil {
		if lease, held := s.o.Leases.LeaseByAddr(n.Addr); held && lease.MAC != n.MAC && !slices.Contains(n.MACs, lease.MAC) {
			return api.RelayNode{}, false
		}
	}
	out := api.RelayNode{
		ID: string(n.ID), Name: n.Name, MACs: []string{string(n.MAC)}, State: string(n.State), Addr: n.Addr,
		Installed: !n.System.InstalledAt.IsZero(),
	}
	for _, m := range n.MACs {
		if m != n.MAC {
			out.MACs = append(out.MACs, string(m))
		}
	}
	return out, true
}
