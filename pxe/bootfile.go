package pxe

import (
	"net/netip"
	"net/url"
	"strings"
)

// Paths on our HTTP boot listener.
const (
	PathScript = "/boot/ipxe"  // GET with mac, uuid, arch and platform: the script for this machine
	PathGRUB   = "/boot/grub/" // CPU/MAC.cfg: the script for this machine
	PathFiles  = "/boot/"      // loaders, kernel, ramdisk
)

// BaseURL returns the URL of our HTTP boot listener, as the machine sees it.
func (r Request) BaseURL() string {
	scheme, usual := "http://", uint16(80)
	if r.Secure {
		scheme, usual = "https://", 443
	}
	if r.Port == 0 || r.Port == usual {
		return scheme + urlHost(r.Server)
	}
	return scheme + netip.AddrPortFrom(r.Server, r.Port).String()
}

// urlHost writes an address as a URL has it: IPv6 in brackets (RFC 3986
// §3.2.2).
func urlHost(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}

// BootFile returns what stands in the boot file field of an answer: a name for
// TFTP, a URL (DHCPv6 has nothing else: RFC 5970 §3.1), or "" when there is
// nothing to load. The script's URL says who
// asks; what iPXE itself knows best is left for it to fill in.
func (p Plan) BootFile(r Request) string {
	switch {
	case p.File == "":
		return ""
	case !p.ByHTTP && r.Server.Is6():
		return "tftp://" + urlHost(r.Server) + "/" + p.File
	case !p.ByHTTP:
		return p.File
	case r.Firmware == HTTP:
		return r.BaseURL() + PathFiles + p.File
	default:
		return ScriptURL(r.BaseURL(), r.MAC.Hardware().String(), r.UUID)
	}
}

// ScriptURL returns the URL of a machine's script. Empty facts are left to
// iPXE, which expands ${…} in a boot file name and in scripts.
func ScriptURL(base, mac, uuid string) string {
	if mac == "" {
		mac = "${netX/mac:hexhyp}" // the card that it booted with
	} else {
		mac = url.QueryEscape(strings.ReplaceAll(mac, ":", "-"))
	}
	if uuid == "" {
		uuid = "${uuid}"
	} else {
		uuid = url.QueryEscape(uuid)
	}
	return base + PathScript + "?mac=" + mac + "&uuid=" + uuid + "&platform=${platform}&arch=${buildarch}"
}
