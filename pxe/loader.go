package pxe

import "slices"

// A Transport is how a firmware fetches its loader.
type Transport string

// The transports.
const (
	ByTFTP Transport = "TFTP"
	ByHTTP Transport = "HTTP"
)

// A Loader is a program that a firmware runs.
type Loader struct {
	File string
	// Signed loaders run with Secure Boot on: Debian's shim, which the firmware
	// trusts, starts Debian's GRUB, which starts Debian's kernel. Nobody signs
	// iPXE for Debian.
	Signed bool
}

// A row of the table says which loaders a firmware of a platform can be given,
// the best first, and how it fetches them.
type row struct {
	firmware Firmware
	platform Platform
	by       Transport
	loaders  []Loader
}

// Debian's names, but for shim and GRUB, which shim finds by these names. What
// comes first uses the firmware's own network driver: that works on cards that
// iPXE has no driver for. Where it fails, Secure Boot is the usual reason, so
// that the signed chain comes second; iPXE with its own drivers is the last
// resort for firmware whose driver is broken.
var (
	biosLoaders  = []Loader{{File: "undionly.kpxe"}, {File: "ipxe.pxe"}}
	x64Loaders   = []Loader{{File: "snponly.efi"}, {File: "shimx64.efi", Signed: true}, {File: "ipxe.efi"}}
	arm64Loaders = []Loader{{File: "ipxe-arm64.efi"}, {File: "shimaa64.efi", Signed: true}} // Debian builds no snponly for it
	piLoaders    = []Loader{{File: piLoader}}
)

// table is the boot matrix. A platform that is not in it has no loader: Debian
// has none for 32-bit UEFI, and nobody has met one in a rack.
var table = []row{
	{ROM, PlatformBIOS, ByTFTP, biosLoaders},
	{HTTP, PlatformBIOS, ByHTTP, biosLoaders},
	{ROM, PlatformX64, ByTFTP, x64Loaders},
	{HTTP, PlatformX64, ByHTTP, x64Loaders},
	{ROM, PlatformARM64, ByTFTP, arm64Loaders},
	{HTTP, PlatformARM64, ByHTTP, arm64Loaders},
	{ROM, PlatformPi, ByTFTP, piLoaders},
}

// secondStage are the programs that a loader fetches by itself, by name.
var secondStage = map[string]string{
	"shimx64.efi":  "grubx64.efi",
	"shimaa64.efi": "grubaa64.efi",
}

// LoadersFor returns what a firmware of a platform can be given, best first.
func LoadersFor(f Firmware, p Platform) []Loader {
	for _, r := range table {
		if r.firmware == f && r.platform == p {
			return slices.Clone(r.loaders)
		}
	}
	return nil
}

// Loads reports whether a firmware of a platform may be told to load a file: a
// loader of ours that is built for it, or the operator's own. What is no ROM is given
// loaders as one.
func Loads(f Firmware, p Platform, file string) bool {
	if f != HTTP {
		f = ROM
	}
	return !IsLoader(file) || slices.ContainsFunc(LoadersFor(f, p), func(l Loader) bool { return l.File == file })
}

// Loaders returns the files that machines in racks are given, each once, so
// that a server can check that it has them. What a Raspberry Pi loads is
// brought by whoever has one.
func Loaders() []string {
	var files []string
	add := func(file string) {
		if file != "" && !slices.Contains(files, file) {
			files = append(files, file)
		}
	}
	for _, r := range table {
		for _, l := range r.loaders {
			if r.platform != PlatformPi {
				add(l.File)
				add(secondStage[l.File])
			}
		}
	}
	return files
}

// IsLoader reports whether a file is one that a firmware is told to load: its
// being fetched opens a boot, in which something has to follow.
func IsLoader(file string) bool {
	return slices.ContainsFunc(table, func(r row) bool {
		return slices.ContainsFunc(r.loaders, func(l Loader) bool { return l.File == file })
	})
}
