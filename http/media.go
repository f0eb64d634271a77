package http

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/http/bootfile"
	"github.com/rackstage/provision/image/iso"
	"github.com/rackstage/provision/internal/throttle"
	ipxescripts "github.com/rackstage/provision/ipxe-scripts"
	"github.com/rackstage/provision/pxe"
)

// pathMedia is where BMCs read CD images: a secret, and the version of the
// image as its name. The secret is that of one boot of one machine; a version
// that is not the present one is not served, so that nobody reads the beginning
// of one image and the end of another.
const pathMedia = "/boot/media/"

// What CD images have in them beside the kernel and the ramdisk, as `provision
// images build` names it.
const (
	fileCDBIOS  = "cd-bios.img"
	fileCDX64   = "cd-x64.img"
	fileCDARM64 = "cd-arm64.img"

	// GRUB knows our CD by it, and Debian's GRUB for CDs looks for the other.
	fileDisc, fileDiscInfo = ".disk/provision", ".disk/info"
	fileDiscScript         = "boot/grub/grub.cfg"
)

// A disc is the CD image of one boot of one machine, open for reading.
type disc struct {
	*iso.Image
	version string
	made    time.Time
	files   []*os.File
}

func (d *disc) close() {
	for _, f := range d.files {
		_ = f.Close() // it was read from
	}
}

// openDisc lays the CD image of a boot out. The same boot has the same image as
// long as kernel and ramdisk are the same and the node boots what it was to boot.
func (b boot) openDisc(m fleet.MediaBoot) (*disc, error) {
	script, ramdisk, err := b.discScript(m)
	if err != nil {
		return nil, err
	}
	d := &disc{}
	sum := sha256.New()
	sum.Write(script)
	o := iso.Options{Label: "PROVISION", Files: []iso.File{
		textFile(fileDiscInfo, []byte("provision\n")), textFile(fileDisc, []byte("provision\n")), textFile(fileDiscScript, script),
	}}
	arch := discArch(m.Node)
	kernel, _ := bootFiles(arch)
	names := []string{fileCDBIOS, fileCDX64, kernel, ramdisk}
	o.BIOS, o.EFI = fileCDBIOS, fileCDX64
	if arch == pxe.EFIARM64 {
		names, o.BIOS, o.EFI = []string{fileCDARM64, kernel, ramdisk}, "", fileCDARM64
	}
	for _, name := range names {
		f, info, err := bootfile.OpenIn(b.bootDir, name)
		if err != nil {
			d.close()
			return nil, noDisc(m.Node, fmt.Errorf("this server has no %s in its folder boot: %w", name, errors.Unwrap(err)))
		}
		d.files = append(d.files, f)
		o.Files = append(o.Files, iso.File{Name: name, Size: info.Size(), Content: f})
		fmt.Fprintln(sum, name, bootfile.Tag(info))
		if info.ModTime().After(o.Made) {
			o.Made = info.ModTime()
		}
	}
	d.version, d.made = hex.EncodeToString(sum.Sum(nil)[:8]), o.Made
	if d.Image, err = iso.New(o); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func textFile(name string, text []byte) iso.File {
	return iso.File{Name: name, Size: int64(len(text)), Content: bytes.NewReader(text)}
}

// discArch is the architecture of a node's CD image, which has something for
// either firmware.
func discArch(n fleet.Node) pxe.Arch {
	if archOfNode(n) == pxe.EFIARM64 {
		return pxe.EFIARM64
	}
	return pxe.EFIX64
}

// discScript is GRUB's script on a node's CD image: what it would be given by
// the network. ramdisk is the file that it starts. Whatever may change while an
// image is read is left out of it.
func (b boot) discScript(m fleet.MediaBoot) (script []byte, ramdisk string, err error) {
	n := m.Node
	server, err := b.discServer(n)
	if err != nil {
		return nil, "", noDisc(n, err)
	}
	v := &visit{}
	b.fill(v, pxe.GRUB, n.Addr, server, n.MAC, bootQuery{Arch: discArch(n), Do: doGo})
	v.title = string(n.MAC)
	kernel, ramdisk := bootFiles(v.ask.Arch)
	a := ipxescripts.Agent{Args: v.front.agentArgs(n.MAC, m.Hello)}
	switch do := b.choose(v); do {
	case doAgent:
	case doRescue:
		var fault string
		if a, fault = b.rescueRamdisk(v); fault != "" {
			return nil, "", noDisc(n, errors.New(fault))
		}
		ramdisk = rescueFile(v.ask.Arch)
	case doCustom:
		return nil, "", noDisc(n, errors.New("its script is for machines that boot from the network"))
	default:
		return nil, "", noDisc(n, errors.New("there is nothing for it to boot: "+v.plan.Reason))
	}
	a.Title, a.Server, a.Kernel, a.Initrd = v.title, v.front.name, "/"+kernel, "/"+ramdisk
	script, err = b.grubScripts.Media(ipxescripts.GRUBAgent{Agent: a, Console: consoles(v.ask.Arch)})
	return script, ramdisk, err
}

// discServer is our address as a node sees it that has not asked yet: by the
// address that it had, or by its subnet, or as its BMC sees us.
func (s *Server) discServer(n fleet.Node) (netip.Addr, error) {
	if s.o.ServerFor == nil {
		return netip.Addr{}, errors.New("this server does not know its address")
	}
	if n.Addr.IsValid() {
		return s.o.ServerFor(n.Addr)
	}
	for _, subnet := range s.o.Engine.Site().Subnets {
		if subnet.Name == n.Place.Subnet && subnet.CIDR.IsValid() {
			return s.o.ServerFor(subnet.CIDR.Masked().Addr().Next())
		}
	}
	addr, ok := n.BMC.IP()
	if !ok {
		return netip.Addr{}, errors.New("nobody knows its network: boot it once, or declare its subnet")
	}
	return s.o.ServerFor(addr)
}

func noDisc(n fleet.Node, err error) error {
	return &fleet.Error{
		Kind: fleet.Conflict, Code: fleet.CodeMediaImage, Op: "make CD image", On: "node " + n.Title(), Err: err,
		Hint: fleet.Diagnose(fleet.CodeMediaImage).FixFor(n.Title()),
	}
}

// MediaURL returns where a BMC at an address reads the CD image of a boot,
// after a look at whether there is one.
func (s *Server) MediaURL(secret string, bmc netip.Addr) (string, error) {
	m, err := s.o.Engine.OpenMedia(secret)
	if err != nil {
		return "", err
	}
	d, err := boot{s}.openDisc(m)
	if err != nil {
		return "", err
	}
	d.close()
	if s.o.ServerFor == nil {
		return "", noDisc(m.Node, errors.New("this server does not know its address"))
	}
	server, err := s.o.ServerFor(bmc)
	if err != nil {
		return "", noDisc(m.Node, err)
	}
	at := pxe.Request{Server: server, Port: s.o.BootPort}
	if s.byHTTPS(bmc) {
		at.Secure, at.Port = true, s.o.BootHTTPS
	}
	return at.BaseURL() + pathMedia + secret + "/" + d.version + ".iso", nil
}

// media serves a CD image, or the part of it that a BMC asks for.
func (b boot) media(w http.ResponseWriter, req *http.Request, rest string) {
	secret, name, _ := strings.Cut(rest, "/")
	version, named := strings.CutSuffix(name, ".iso")
	d, m, err := b.discOf(secret)
	if err == nil && (!named || version != d.version) {
		d.close()
		err = errors.New("it is another image by now")
	}
	if err != nil {
		b.counts.mediaRefused.Add(1)
		b.o.Log.DebugContext(req.Context(), "CD image refused", "addr", remoteAddr(req), "err", err)
		http.Error(w, "the boot that this CD image is for is over: have a new one made", http.StatusGone)
		return
	}
	defer d.close()
	b.counts.media.Add(1)
	if req.Method == http.MethodGet && b.discsSeen.first(secret) {
		b.o.Engine.Observe(fleet.Evidence{
			At: b.o.Now(), MAC: m.Node.MAC, Phase: fleet.PhaseLoader, Detail: "CD image read by " + remoteAddr(req).String(),
		})
	}
	w.Header().Set("Cache-Control", "no-store")
	bootfile.ServeContent(w, req, io.NewSectionReader(d, 0, d.Size()), d.made, `"`+d.version+`"`)
}

func (b boot) discOf(secret string) (*disc, fleet.MediaBoot, error) {
	m, err := b.o.Engine.OpenMedia(secret)
	if err != nil {
		return nil, m, err
	}
	d, err := b.openDisc(m)
	return d, m, err
}

// discsSeen limits what is told of CD images that are read piece by piece: once
// a minute, of each image.
type discsSeen struct {
	begin time.Time
	mu    sync.Mutex
	gate  *throttle.Gate[string] // by secret
}

func newDiscsSeen() *discsSeen {
	return &discsSeen{begin: time.Now(), gate: throttle.NewGate[string](1, time.Minute)}
}

func (d *discsSeen) first(secret string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.gate.Allow(secret, time.Since(d.begin))
}
