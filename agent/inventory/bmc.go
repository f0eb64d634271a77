package inventory

import (
	"context"
	"net"
	"net/netip"
	"os"
	"time"

	ipmi "github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/types"

	"github.com/rackstage/provision/api"
)

// bmcPatience is for all questions together: a BMC that is busy with itself
// does not keep its machine from saying hello.
const bmcPatience = 3 * time.Second

// lanChannels are where the LAN port is: 1 nearly everywhere, 8 at some.
var lanChannels = []uint8{1, 2, 3, 8}

func (m Machine) bmc(ctx context.Context) api.InventoryBMC {
	if m.BMC != nil {
		return m.BMC()
	}
	if _, err := os.Stat(m.Root + "/dev/ipmi0"); err != nil {
		return api.InventoryBMC{}
	}
	ctx, cancel := context.WithTimeout(ctx, bmcPatience)
	defer cancel()
	answer := make(chan api.InventoryBMC, 1)
	go func() { answer <- askBMC(ctx) }() // the driver does not know contexts
	select {
	case b := <-answer:
		return b
	case <-ctx.Done():
		return api.InventoryBMC{Present: true}
	}
}

// askBMC reads the address of the first LAN channel that has one. The device
// is there, so the BMC is, whatever it answers.
func askBMC(ctx context.Context) api.InventoryBMC {
	found := api.InventoryBMC{Present: true}
	c, err := ipmi.NewOpenClient()
	if err != nil || c.Connect(ctx) != nil {
		return found
	}
	defer c.Close(ctx) // nothing was set
	for _, channel := range lanChannels {
		if ctx.Err() != nil {
			return found
		}
		mac := lanParam(ctx, c, channel, types.LanConfigParamSelector_MAC)
		if len(mac) != 6 {
			continue
		}
		found.MAC = net.HardwareAddr(mac).String()
		if ip, ok := netip.AddrFromSlice(lanParam(ctx, c, channel, types.LanConfigParamSelector_IP)); ok && !ip.IsUnspecified() {
			found.Address = ip.String()
			return found
		}
	}
	return found
}

func lanParam(ctx context.Context, c *ipmi.Client, channel uint8, which types.LanConfigParamSelector) []byte {
	answer, err := c.GetLanConfigParam(ctx, channel, which, 0, 0)
	if err != nil {
		return nil
	}
	return answer.ParamData
}
