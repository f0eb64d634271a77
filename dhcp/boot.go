package dhcp

import (
	"fmt"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/rackstage/provision/pxe"
)

const (
	classPXE  = "PXEClient"
	classHTTP = "HTTPClient"

	maxFileField = 127 // of 128, with a NUL at the end
)

var (
	// useBootFile is PXE discovery control (option 43, tag 6) with bit 3 set:
	// take the boot file of this very answer, look for no boot server.
	useBootFile = []byte{6, 1, 8, 255}
	// noProxyDHCP is iPXE's option 175, tag 176: do not wait for a ProxyDHCP
	// offer. It saves two seconds of every boot.
	noProxyDHCP = []byte{176, 1, 1}
	// piMenu is what a Raspberry Pi looks for: a PXE boot menu (option 43: no
	// discovery, a prompt that does not wait, one entry for the local server)
	// whose entry has this very name.
	piMenu = []byte("\x06\x01\x03\x0a\x04\x00PXE\x09\x14\x00\x00\x11Raspberry Pi Boot\xff")
	// passOn is a PXE boot menu of one entry, the local boot (type 0), that is
	// taken without a prompt: firmware ends its PXE at once and goes on, where
	// silence keeps it for a minute.
	passOn = []byte("\x06\x01\x03\x0a\x04\x00PXE\x09\x0c\x00\x00\x09HTTP boot\xff")
)

// bootOptions tells the client what to load, in the form of its firmware.
func bootOptions(d *draft, sc *scene) {
	file := sc.bootFile()
	if sc.boot.Firmware == pxe.NoBoot && file == "" {
		return
	}
	proxy := sc.beside
	if sc.boot.Firmware == pxe.IPXE && !proxy {
		d.set(175, noProxyDHCP)
	}
	if sc.boot.Platform() == pxe.PlatformPi {
		piOptions(d, sc)
		return
	}
	if sc.plan.PassOn && !proxy {
		d.setText(60, classPXE)
		d.set(43, passOn)
	}
	if file == "" || len(file) > 255 {
		return
	}
	switch sc.boot.Firmware {
	case pxe.HTTP:
		// UEFI takes a URL only from who says that it means it.
		d.setText(60, classHTTP)
	case pxe.ROM, pxe.IPXE, pxe.GRUB, pxe.NoBoot:
		if proxy {
			d.setText(60, classPXE)
			d.set(43, useBootFile)
		}
	}
	d.server = sc.bootServer()
	d.setText(66, d.server.String())
	d.setText(67, file)
	if len(file) <= maxFileField {
		d.file = file
	}
}

// overrides reports whether the client's class says what it boots: for clients
// that would get a loader of ours, for iPXE and GRUB where the class names
// them, and for what is no firmware at all. A node that has its system never
// gets anything else to boot.
func (sc *scene) overrides() bool {
	if sc.class == nil || sc.class.BootFile == "" {
		return false
	}
	switch sc.plan.Action {
	case pxe.Load:
		return true
	case pxe.Script:
		return sc.class.Match.User != ""
	default:
		return sc.boot.Firmware == pxe.NoBoot
	}
}

// bootFile is what the client is told to load: a name or a URL; "" for nothing.
func (sc *scene) bootFile() string {
	if sc.overrides() {
		return sc.class.BootFile
	}
	return sc.plan.BootFile(sc.boot)
}

// bootServer is where it is told to load from.
func (sc *scene) bootServer() netip.Addr {
	if sc.overrides() && sc.class.BootServer.IsValid() {
		return sc.class.BootServer
	}
	return sc.boot.Server
}

// boots reports whether the client is firmware, or a loader.
func (sc *scene) boots() bool { return sc.boot.Firmware != pxe.NoBoot }

// piOptions send a Raspberry Pi to our TFTP server. It knows the names of the
// files that it loads, and takes no other.
func piOptions(d *draft, sc *scene) {
	if sc.plan.File == "" {
		return
	}
	d.server = sc.boot.Server
	d.set(43, piMenu)
	d.setText(60, classPXE)
	d.setText(66, sc.boot.Server.String())
}

// answerProxy gives boot information to clients whose address comes from
// another server (PXE 2.1 §2.2.3). It never gives an address.
func (s *Server) answerProxy(sc *scene) (reply, bool) {
	if sc.boot.Firmware == pxe.NoBoot {
		return reply{}, false
	}
	switch sc.kind {
	case dhcpv4.MessageTypeDiscover:
		if sc.plan.File == "" {
			s.observe(sc, "silence: "+planText(sc))
			return reply{}, false
		}
		s.observe(sc, "offered beside another server: "+planText(sc))
		return s.proxied(sc, dhcpv4.MessageTypeOffer)
	case dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeInform:
		// To port 4011, or (iPXE) to us by name on port 67. What is broadcast
		// is meant for the server of addresses.
		if !sc.proxy && sc.chosen != sc.server {
			return reply{}, false
		}
		return s.bootAnswer(sc)
	default:
		return reply{}, false
	}
}

// bootAnswer acknowledges a request for boot information alone.
func (s *Server) bootAnswer(sc *scene) (reply, bool) {
	asks := sc.kind == dhcpv4.MessageTypeRequest || sc.kind == dhcpv4.MessageTypeInform
	if !asks || sc.boot.Firmware == pxe.NoBoot || sc.plan.File == "" {
		return reply{}, false
	}
	sc.beside = true // whatever its mode: on this port we are a ProxyDHCP server
	s.observe(sc, "asked for its boot file: "+planText(sc))
	return s.proxied(sc, dhcpv4.MessageTypeAck)
}

func (s *Server) proxied(sc *scene, kind dhcpv4.MessageType) (reply, bool) {
	r, ok := s.build(sc, kind, netip.Addr{})
	if ok {
		s.stats.proxied.Add(1)
	}
	return r, ok
}

// noLoaderOn is what the alarm is about when a machine can be given nothing:
// all of its kind on this network.
func (sc *scene) noLoaderOn() string {
	kind := string(sc.boot.Platform())
	if kind == "" {
		kind = fmt.Sprintf("architecture %d", sc.boot.Arch)
	}
	return kind + " machines on subnet " + sc.subnet.Name
}

// planText is the plan in words, for evidence.
func planText(sc *scene) string {
	if file := sc.plan.File; file != "" {
		return fmt.Sprintf("%s (%s)", file, sc.plan.Reason)
	}
	return sc.plan.Reason
}
