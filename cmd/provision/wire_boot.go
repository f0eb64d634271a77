package main

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/image"
	"github.com/rackstage/provision/templates"
)

// serverFor is the address of ours that a machine fetches files from.
func (st *station) serverFor(client netip.Addr) (netip.Addr, error) {
	if n, ok := st.engine.Site().SubnetOf(client); ok {
		for _, a := range []netip.Addr{n.Server, st.relays.AddrOn(n.Name)} {
			if a.IsValid() {
				return a, nil
			}
		}
	}
	if a, err := netip.ParseAddr(st.conf.Advertise.Address); err == nil && a.BitLen() == client.Unmap().BitLen() {
		return a, nil
	}
	// The address that the kernel would answer from; nothing is sent.
	c, err := net.Dial("udp", netip.AddrPortFrom(client.Unmap(), 9).String()) //nolint:noctx // connects no further than the routing table
	if err != nil {
		return netip.Addr{}, fmt.Errorf("find the address that %s reaches: %w", client, err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}

// byHTTPS reports whether a machine at an address, or a BMC, is given https URLs
// to boot from.
func (st *station) byHTTPS(client netip.Addr) bool {
	n, ok := st.engine.Site().SubnetOf(client)
	return ok && n.BootHTTPS && !st.atRelay(n)
}

// addresses is engine.Addresses: those of this machine, and those that
// provision.yaml says it is reached by.
type addresses struct{ said advertise }

// Own implements engine.Addresses.
func (a addresses) Own(addr netip.Addr) bool {
	for _, said := range append([]string{a.said.Address}, a.said.Names...) {
		if ip, err := netip.ParseAddr(said); err == nil && ip.Unmap() == addr.Unmap() {
			return true
		}
	}
	list, err := net.InterfaceAddrs()
	return err == nil && slices.ContainsFunc(list, func(l net.Addr) bool { // else it may be somebody else's
		p, err := netip.ParsePrefix(l.String())
		return err == nil && p.Addr().Unmap() == addr.Unmap()
	})
}

// seeds is engine.Seeds over package templates.
type seeds struct{}

// Seed implements engine.Seeds. All images that we build are Debian.
func (seeds) Seed(n fleet.Node, p fleet.Profile) ([]fleet.SeedFile, error) {
	return templates.Render("debian", templates.DataFor(n, p, "", n.Run))
}

// imageNames is engine.Images over the image store.
type imageNames struct{ *image.Store }

// Image implements engine.Images.
func (s imageNames) Image(name fleet.ImageName) (fleet.Image, error) {
	info, err := s.Get(string(name))
	if err != nil {
		return fleet.Image{}, err
	}
	return fleet.Image{Name: name, Digest: info.Digest, Bytes: info.Size}, nil
}

// imageWire is http's view of the image store.
type imageWire struct{ store *image.Store }

// List implements httpd.Images.
func (w imageWire) List() ([]api.Image, error) {
	infos, err := w.store.List()
	if err != nil {
		return nil, err
	}
	out := make([]api.Image, 0, len(infos))
	for _, i := range infos {
		out = append(out, api.Image{Name: i.Name, Kind: i.Kind, Digest: i.Digest, Size: i.Size, Stored: i.StoredBytes, Chunks: i.Chunks, Created: i.Created})
	}
	return out, nil
}

// Index implements httpd.Images.
func (w imageWire) Index(name string) (api.ImageIndex, error) {
	idx, err := w.store.Index(name)
	if err != nil {
		return api.ImageIndex{}, err
	}
	out := api.ImageIndex{Name: name, Digest: idx.Digest, Size: idx.Size, Chunks: make([]api.Chunk, len(idx.Chunks))}
	for i, c := range idx.Chunks {
		out.Chunks[i] = api.Chunk{ID: c.ID, Offset: c.Offset, Size: c.Size, Zero: c.Zero}
	}
	return out, nil
}

// ChunkPath implements httpd.Images. An ID that is none has no file.
func (w imageWire) ChunkPath(id string) string {
	p, err := w.store.ChunkPath(strings.ToLower(id))
	if err != nil {
		return ""
	}
	return p
}
