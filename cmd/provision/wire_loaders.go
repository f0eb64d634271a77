package main

import (
	"errors"
	"net/netip"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/pxe"
)

// loaders is engine.Loaders over package pxe.
type loaders struct{ st *station }

// LoaderURL implements engine.Loaders.
func (l loaders) LoaderURL(n fleet.Node) (string, error) {
	if !n.Addr.IsValid() {
		return "", noLoader(n, errors.New("it had no address yet"), "boot it once from the network")
	}
	server, err := l.st.serverFor(n.Addr)
	if err != nil {
		return "", noLoader(n, err, "set advertise.address in provision.yaml")
	}
	return loaderURL(n, netip.AddrPortFrom(server, portOf(l.st.conf.Listen.HTTP)), l.st.lessons.OfNode(n))
}

func noLoader(n fleet.Node, err error, hint string) error {
	return &fleet.Error{Kind: fleet.Conflict, Code: fleet.CodeNoLoader, Op: "find loader", On: "node " + n.Title(), Err: err, Hint: hint}
}

// loaderURL is what a node gets when its firmware asks for HTTP boot by itself.
// It is about to boot our agent, whatever it has been until now.
func loaderURL(n fleet.Node, server netip.AddrPort, quirk fleet.Quirk) (string, error) {
	arch := pxe.HTTPX64
	if n.Inventory.Arch == "arm64" {
		arch = pxe.HTTPARM64
	}
	req := pxe.Request{MAC: n.MAC, UUID: n.UUID, Firmware: pxe.HTTP, Arch: arch, Server: server.Addr(), Port: server.Port(), Quirk: quirk}
	n.State, n.System = fleet.Ready, fleet.System{}
	plan := pxe.Decide(req, n)
	if n.Inventory.Firmware == "bios" || plan.BootFile(req) == "" {
		return "", noLoader(n, errors.New("there is none for its firmware by HTTP"), "take boot: http out of its rule in site.yaml")
	}
	return plan.BootFile(req), nil
}
