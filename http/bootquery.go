package http

import (
	"net/url"
	"strings"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/pxe"
)

// A bootQuery is what iPXE says about its machine in the URL of its script.
type bootQuery struct {
	MAC  fleet.MAC // "" when it says none
	UUID string    // "" likewise
	Arch pxe.Arch
	Do   choice
}

// readBootQuery reads a query. The first of two values counts; what is not
// known is left alone.
func readBootQuery(raw string) bootQuery {
	var mac, uuid, platform, arch, do string
	for pair := range strings.SplitSeq(raw, "&") {
		key, value, _ := strings.Cut(pair, "=")
		var into *string
		switch key {
		case "mac":
			into = &mac
		case "uuid":
			into = &uuid
		case "platform":
			into = &platform
		case "arch":
			into = &arch
		case "do":
			into = &do
		}
		if into == nil || *into != "" || len(value) > 128 {
			continue
		}
		if strings.ContainsAny(value, "%+") {
			plain, err := url.QueryUnescape(value)
			if err != nil {
				continue
			}
			value = plain
		}
		*into = value
	}
	q := bootQuery{Arch: archOf(platform, arch), Do: choice(do)}
	if m, err := fleet.ParseMAC(mac); err == nil {
		q.MAC = m
	}
	if u, err := fleet.ParseUUID(uuid); err == nil {
		q.UUID = u
	}
	return q
}

// archOf reads iPXE's own words for what it runs on.
func archOf(platform, arch string) pxe.Arch {
	switch {
	case platform != "efi":
		return pxe.BIOS
	case arch == "arm64":
		return pxe.EFIARM64
	default:
		return pxe.EFIX64
	}
}

// platform is iPXE's word for an architecture's kind of firmware.
func platform(a pxe.Arch) string {
	if a == pxe.BIOS {
		return "bios"
	}
	return "efi"
}
