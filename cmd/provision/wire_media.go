package main

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/rackstage/provision/fleet"
)

// medias is engine.Media over the boot listener, which makes CD images while
// they are read.
type medias struct{ st *station }

// MediaURL implements engine.Media.
func (m medias) MediaURL(ctx context.Context, n fleet.Node, secret string) (string, error) {
	addr, ok := n.BMC.IP()
	if !ok {
		host, _, err := net.SplitHostPort(n.BMC.Address)
		if err != nil {
			host = n.BMC.Address
		}
		found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err != nil || len(found) == 0 {
			return "", &fleet.Error{
				Kind: fleet.Conflict, Code: fleet.CodeMediaImage, Op: "make CD image", On: "node " + n.Title(), Err: fmt.Errorf("find its BMC %s: %w", host, err),
				Hint: "give its BMC's address as numbers in site.yaml, or see to the name server",
			}
		}
		addr = found[0].Unmap()
	}
	web := m.st.web.Load() // runs go on before it is there
	if web == nil {
		return "", &fleet.Error{Kind: fleet.Unreachable, Op: "make CD image", On: "node " + n.Title(), Err: errors.New("the server is still starting"), Hint: "try again"}
	}
	return web.MediaURL(secret, addr)
}
