package http

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/netip"
	"path"
	"strings"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/http/bootfile"
	"github.com/rackstage/provision/pxe"
)

// Files of the boot directory that have a meaning of their own.
const (
	fileKernel  = "vmlinuz"
	fileRamdisk = "initrd.img"
	autoexec    = "autoexec.ipxe"
)

// boot is the plain listener that firmware, loaders and the ramdisk fetch
// from. It knows no API, no console and no cookies. It is plain net/http: a
// router would answer firmware's double slashes with redirects, and a
// wrapped writer would lose sendfile.
type boot struct {
	*Server
}

// BootHandler returns what the boot listener serves.
func (s *Server) BootHandler() http.Handler { return boot{s} }

// ServeHTTP answers GET and HEAD. UEFI and GRUB ask HEAD first.
func (b boot) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	defer b.survive(w, req)
	b.counts.requests.Add(1)
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		b.counts.badMethods.Add(1)
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "GET or HEAD only", http.StatusMethodNotAllowed)
		return
	}
	switch name := path.Clean("/" + req.URL.Path); {
	case name == pxe.PathScript:
		b.script(w, req)
	case path.Base(name) == autoexec:
		b.autoexec(w, req)
	case b.grub(w, req, name):
	case strings.HasPrefix(name, api.PathChunks):
		b.chunk(w, req, strings.TrimPrefix(name, api.PathChunks))
	case strings.HasPrefix(name, pathMedia):
		b.media(w, req, strings.TrimPrefix(name, pathMedia))
	case strings.HasPrefix(name, pathLinks):
		b.link(w, req, strings.TrimPrefix(name, pathLinks))
	case strings.HasPrefix(name, pxe.PathFiles):
		b.file(w, req, strings.TrimPrefix(name, pxe.PathFiles))
	default:
		if loader, ok := bareLoader(name); ok {
			b.file(w, req, loader)
			return
		}
		b.notFound(w, req)
	}
}

func (b boot) notFound(w http.ResponseWriter, req *http.Request) {
	b.counts.notFound.Add(1)
	http.NotFound(w, req)
}

// file serves the kernel, the ramdisk and the loaders.
func (b boot) file(w http.ResponseWriter, req *http.Request, name string) {
	if !fileName(name) {
		b.notFound(w, req)
		return
	}
	f, info, err := bootfile.OpenIn(b.bootDir, name)
	if err != nil {
		b.notFound(w, req)
		b.notServed(req, name, err)
		return
	}
	defer f.Close()
	b.counts.files.Add(1)
	if req.Method == http.MethodGet && bootfile.FromStart(req) {
		b.observe(req, phaseOf(name), name)
	}
	// Not immutable: a new ramdisk has the old one's name.
	w.Header().Set("Cache-Control", "no-cache")
	sent := bootfile.Serve(w, req, f, info, bootfile.Tag(info))
	if (name == fileRamdisk || name == fileRamdiskARM64) && sent == info.Size() {
		b.observeWhole(req, name, sent)
	}
}

// notServed reports a file that a machine was told to load and that is not
// there. Most firmware asks HEAD first, and goes no further.
func (b boot) notServed(req *http.Request, name string, err error) {
	b.o.Log.DebugContext(req.Context(), "boot file not served", "file", name, "addr", remoteAddr(req), "err", err)
	if b.o.Absent == nil || !errors.Is(err, fs.ErrNotExist) {
		return
	}
	mac, ok := b.machine(req)
	if !ok {
		return
	}
	if why := b.o.Absent(name); why != "" {
		b.o.Engine.Observe(fleet.Evidence{
			At: b.o.Now(), MAC: mac,
			Detail: fleet.CleanText(req.Method + " " + name + " from " + remoteAddr(req).String() + ": " + why),
		})
	}
}

// chunk serves a piece of an image. Its name is its content, so that caches
// may keep it for ever. Fetching one proves nothing about a boot.
func (b boot) chunk(w http.ResponseWriter, req *http.Request, name string) {
	id, ok := bootfile.ChunkID(name)
	if !ok {
		b.notFound(w, req)
		return
	}
	f, info, err := bootfile.Open(b.o.Images.ChunkPath(id))
	if err != nil {
		b.notFound(w, req)
		return
	}
	defer f.Close()
	b.counts.chunks.Add(1)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	bootfile.Serve(w, req, f, info, `"`+id+`"`)
}

// phaseOf says what the fetching of a file proves.
func phaseOf(name string) fleet.Phase {
	switch name {
	case fileKernel, fileRamdisk, fileKernelARM64, fileRamdiskARM64, rescueFile(pxe.EFIX64), rescueFile(pxe.EFIARM64):
		return fleet.PhaseKernel
	default:
		return fleet.PhaseLoader
	}
}

// observe reports what a machine fetched, when we can tell which machine.
func (b boot) observe(req *http.Request, phase fleet.Phase, what string) {
	if mac, ok := b.machine(req); ok {
		b.o.Engine.Observe(fleet.Evidence{
			At: b.o.Now(), MAC: mac, Phase: phase,
			Detail: fleet.CleanText(req.Method + " " + what + " from " + remoteAddr(req).String()), File: what,
		})
	}
}

// observeWhole reports that a machine has got its whole ramdisk: the last that
// is heard of it until its agent says hello.
func (b boot) observeWhole(req *http.Request, name string, bytes int64) {
	if mac, ok := b.machine(req); ok {
		b.o.Engine.Observe(fleet.Evidence{
			At: b.o.Now(), MAC: mac, Phase: fleet.PhaseKernel, File: name, Whole: true,
			Detail: fmt.Sprintf("has the %d bytes of %s", bytes, name),
		})
	}
}

// machine tells which machine asks. Who holds the lease of the address
// counts more than what the request says: a request for another machine's
// script is answered with one's own. A request from an address without a lease
// is believed only on a subnet where somebody else gives out the addresses.
//
// It is for evidence alone: loaders say no MAC address when they are fetched, and
// what their machine said by DHCP is good enough for that.
func (b boot) machine(req *http.Request) (fleet.MAC, bool) {
	addr, said := remoteAddr(req), readBootQuery(req.URL.RawQuery).MAC
	mac, ok := b.machineAt(req.Context(), addr, said)
	if !ok && said == "" && b.o.Leases != nil && b.othersGive(addr) {
		return b.o.Leases.TenantAt(addr)
	}
	return mac, ok
}

// machineAt does so for a machine at addr; said is "" when it says nothing.
func (b boot) machineAt(ctx context.Context, addr netip.Addr, said fleet.MAC) (fleet.MAC, bool) {
	if b.o.Leases == nil {
		return said, said != ""
	}
	lease, leased := b.o.Leases.LeaseByAddr(addr)
	if !leased || lease.MAC == "" {
		return said, said != "" && b.othersGive(addr)
	}
	if said == "" {
		return lease.MAC, true
	}
	if said != lease.MAC && !b.sameNode(said, lease.MAC) {
		b.counts.othersNamed.Add(1)
		b.o.Log.DebugContext(ctx, "boot request named another machine", "mac", lease.MAC, "said", said, "addr", addr)
		return lease.MAC, true
	}
	return said, true
}

// othersGive reports whether addr lies in a declared subnet where machines get
// their addresses from somebody else, or make them: there we cannot know who
// has which. Everywhere else, who has no lease has taken its address. That is
// so of link-local ones too, which no machine needs to boot.
func (s *Server) othersGive(addr netip.Addr) bool {
	if addr.Is6() && addr.IsLinkLocalUnicast() {
		return false
	}
	subnet, ok := s.o.Engine.Site().SubnetOf(addr)
	return ok && (!subnet.Mode.GivesAddresses() || subnet.SLAAC)
}

// leasedTo reports whether a machine holds the lease of an address.
func (s *Server) leasedTo(mac fleet.MAC, addr netip.Addr) bool {
	if s.o.Leases == nil {
		return false
	}
	lease, ok := s.o.Leases.LeaseByAddr(addr)
	return ok && lease.MAC != "" && (lease.MAC == mac || s.sameNode(lease.MAC, mac))
}

// unknownAt says why nobody can tell which machine has an address.
func (s *Server) unknownAt(addr netip.Addr, said fleet.MAC) string {
	_, declared := s.o.Engine.Site().SubnetOf(addr)
	switch {
	case s.o.Leases == nil || s.othersGive(addr):
		return "its request says no MAC address and its address has no lease"
	case !declared && said != "" && !addr.IsLinkLocalUnicast():
		return "its address is on no declared subnet: declare it in site.yaml"
	default:
		return "its address has no lease from this server"
	}
}

// sameNode reports whether two cards sit in one machine that we know.
func (s *Server) sameNode(one, other fleet.MAC) bool {
	a, ok := s.o.Engine.NodeByMAC(one)
	if !ok {
		return false
	}
	o, ok := s.o.Engine.NodeByMAC(other)
	return ok && a.ID == o.ID
}

// bootURL is the base URL of the boot listener as a machine sees it.
func (s *Server) bootURL(machine, local netip.Addr) string {
	return pxe.Request{Server: s.serverFor(machine, local), Port: s.o.BootPort}.BaseURL()
}

// serverFor is the address of ours that a machine shall use: the one that
// its subnet names, or the one that its request came in on.
func (s *Server) serverFor(machine, local netip.Addr) netip.Addr {
	if subnet, ok := s.o.Engine.Site().SubnetOf(machine); ok && subnet.Server.IsValid() {
		return subnet.Server
	}
	return local
}
