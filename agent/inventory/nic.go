package inventory

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rackstage/provision/api"
)

// nics returns the physical network cards, in the order of their names.
func (m Machine) nics() []api.NIC {
	entries, err := os.ReadDir(m.Root + "/sys/class/net")
	if err != nil {
		return nil
	}
	heard := m.LLDP.All()
	var out []api.NIC
	for _, e := range entries {
		dir := "/sys/class/net/" + e.Name()
		if _, err := os.Stat(m.Root + dir + "/device"); err != nil {
			continue // loopback, bridges, VLANs: no hardware
		}
		n := api.NIC{Name: e.Name(), MAC: strings.ToLower(cmp.Or(m.permanentMAC(dir), m.text(dir+"/address")))}
		n.Up = m.text(dir+"/carrier") == "1"
		n.Speed = max(0, m.number(dir+"/speed"))
		if driver, err := os.Readlink(m.Root + dir + "/device/driver"); err == nil {
			n.Driver = filepath.Base(driver)
		}
		n.LLDP = heard[e.Name()]
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b api.NIC) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// permanentMAC is known beside the current one only for members of a bond.
func (m Machine) permanentMAC(dir string) string {
	return m.text(dir + "/bonding_slave/perm_hwaddr")
}
