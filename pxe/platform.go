package pxe

import (
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/rackstage/provision/fleet"
)

// An Arch is a client architecture, as in option 93 (RFC 4578 §2.1 and the
// IANA registry "Processor Architecture Types").
type Arch uint16

// The architectures that have a meaning here.
const (
	BIOS      Arch = 0
	EFIIA32   Arch = 6
	EFIBC     Arch = 7 // byte code by the book; in fact every x86-64 firmware says this
	EFIX64    Arch = 9
	EFIARM32  Arch = 10
	EFIARM64  Arch = 11
	HTTPIA32  Arch = 15
	HTTPX64   Arch = 16
	HTTPARM32 Arch = 18
	HTTPARM64 Arch = 19
	HTTPBIOS  Arch = 20
)

// A Platform is what a loader is built for: several architecture numbers mean
// one platform, and one number can mean two.
type Platform string

// The platforms.
const (
	PlatformBIOS  Platform = "bios"
	PlatformX64   Platform = "uefi-x64"
	PlatformARM64 Platform = "uefi-arm64"
	PlatformIA32  Platform = "uefi-ia32"  // no loader
	PlatformARM32 Platform = "uefi-arm32" // no loader
	PlatformPi    Platform = "rpi"        // a Raspberry Pi's own boot ROM
)

var platforms = map[Arch]Platform{
	BIOS: PlatformBIOS, HTTPBIOS: PlatformBIOS,
	EFIBC: PlatformX64, EFIX64: PlatformX64, HTTPX64: PlatformX64,
	EFIARM64: PlatformARM64, HTTPARM64: PlatformARM64,
	EFIIA32: PlatformIA32, HTTPIA32: PlatformIA32,
	EFIARM32: PlatformARM32, HTTPARM32: PlatformARM32,
}

// Platform returns what the machine's loader has to be built for; "" when its
// architecture is none that we know. A Raspberry Pi says that it is a BIOS.
func (r Request) Platform() Platform {
	p := platforms[r.Arch]
	if p == PlatformBIOS && r.Firmware == ROM && isPi(r) {
		return PlatformPi
	}
	return p
}

func (p Platform) uefi() bool { return strings.HasPrefix(string(p), "uefi") }

// piPrefixes are the MAC address blocks of Raspberry Pi.
var piPrefixes = []string{"b8:27:eb", "dc:a6:32", "e4:5f:01", "28:cd:c1", "d8:3a:dd", "2c:cf:67", "88:a2:9e"}

// isPi tells a Raspberry Pi by the model word that starts the identifier of
// newer ones ("RPi4", "RPi5" in memory order), and older ones by their card.
func isPi(r Request) bool {
	if word, _, _ := strings.Cut(r.UUID, "-"); len(word) == 8 && strings.HasSuffix(word, "695052") {
		return true
	}
	return slices.ContainsFunc(piPrefixes, func(p string) bool { return strings.HasPrefix(string(r.MAC), p) })
}

// IsPi tells a Raspberry Pi by its card alone.
func IsPi(mac fleet.MAC) bool { return isPi(Request{MAC: mac}) }

// piLoader is the first file that a Raspberry Pi 4 fetches by a name that is
// always the same. It is not told any name: it knows what to ask for.
const piLoader = "start4.elf"

// PiTree is the folder of boot files for Raspberry Pis: FILE, or for one of
// them SERIAL/FILE.
const PiTree = "rpi"

var ofOnePi = regexp.MustCompile("^/?[0-9a-f]{8}/")

// OfOnePi reports whether a name is one of those that a Raspberry Pi asks for
// before those of all, SERIAL/FILE.
func OfOnePi(name string) bool { return ofOnePi.MatchString(name) }

// PiFile maps a name that was asked for by TFTP into the tree of files for
// Raspberry Pis. They ask for SERIAL/FILE first, and when that has no
// start4.elf, for FILE.
func PiFile(name string) (file string, ok bool) {
	file = PiTree + "/" + strings.TrimLeft(path.Clean("/"+name), "/")
	return file, fs.ValidPath(file) && strings.Count(file, "/") <= 4 && !strings.Contains(file, "/.")
}
