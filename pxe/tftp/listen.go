package tftp

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/rackstage/provision/internal/porthold"
)

// Port is where requests go.
const Port = 69

// Listen opens the socket for [Server.Serve]. When the port is taken the error
// says by whom.
func Listen(ctx context.Context, at netip.AddrPort) (net.PacketConn, error) {
	network := "udp6"
	if at.Addr().Is4() {
		network = "udp4"
	}
	conn, err := (&net.ListenConfig{}).ListenPacket(ctx, network, at.String())
	if err != nil {
		return nil, fmt.Errorf("listen for TFTP requests: %w", porthold.Explain("udp", int(at.Port()), err))
	}
	return conn, nil
}
