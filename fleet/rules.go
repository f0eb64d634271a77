package fleet

import (
	"path"
	"strings"
)

// MatchRule returns the first rule of the site that matches a machine.
func (s Site) MatchRule(n Node) (Rule, bool) {
	subnet, _ := s.SubnetOf(n.Addr)
	for _, r := range s.Rules {
		if r.Match.Holds(n, subnet.Name) {
			return r, true
		}
	}
	return Rule{}, false
}

// Holds reports whether a machine is one that the rule is for.
func (m Match) Holds(n Node, subnet string) bool {
	inv := n.Inventory
	switch {
	case m.MACPrefix != "" && !strings.HasPrefix(string(n.MAC), strings.ToLower(m.MACPrefix)),
		!containsFold(inv.Vendor, m.Vendor),
		!containsFold(inv.Product, m.Product),
		m.Serial != "" && inv.Serial != m.Serial,
		m.Subnet != "" && subnet != m.Subnet,
		!strings.HasPrefix(n.Place.CircuitID, m.CircuitPrefix),
		!strings.HasPrefix(n.Place.RemoteID, m.RemotePrefix),
		m.MinMemoryMiB > 0 && inv.MemoryMiB < m.MinMemoryMiB:
		return false
	}
	if m.AssetTag != "" {
		if ok, err := path.Match(m.AssetTag, inv.AssetTag); !ok || err != nil {
			return false
		}
	}
	return m.SwitchPortPrefix == "" || hasNeighbour(inv.NICs, m.SwitchPortPrefix)
}

func hasNeighbour(nics []NIC, prefix string) bool {
	for _, nic := range nics {
		if strings.HasPrefix(nic.LLDP.System+"/"+nic.LLDP.Port, prefix) {
			return true
		}
	}
	return false
}

func containsFold(s, sub string) bool {
	return strings.Contains(strings.ToLower(s), strings.ToLower(sub))
}
