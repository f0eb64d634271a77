package pxe

// An Arch is a client architecture, as in option 93 (RFC 4578 §2.1 and the
// IANA registry "Processor Architecture Types").
type Arch uint16

// The architectures that have a meaning here.
const (
	BIOS      Arch = 0
	EFIIA32   Arch = 6
	EFIBC     Arch = 7 // byte code by the book; in fact every x86-64 firmware says this
	EFIARM32  Arch = 10
	EFIX64    Arch = 9
	EFIARM64  Arch = 11
	HTTPIA32  Arch = 15
	HTTPX64   Arch = 16
	HTTPARM32 Arch = 18
	HTTPARM64 Arch = 19
	HTTPBIOS  Arch = 20
)

// loaders says which program a firmware of an architecture is given. The names
// are those of Debian's ipxe package. snponly and undionly use the firmware's
// own network driver, which works on cards that iPXE has no driver for.
// A 32-bit UEFI has no loader: nobody has met one in a rack.
var loaders = map[Arch]string{
	BIOS:      "undionly.kpxe",
	HTTPBIOS:  "undionly.kpxe",
	EFIBC:     "snponly.efi",
	EFIX64:    "snponly.efi",
	HTTPX64:   "snponly.efi",
	EFIARM64:  "ipxe-arm64.efi", // Debian builds no snponly for it
	HTTPARM64: "ipxe-arm64.efi",
}

// Loader returns the program for an architecture.
func (a Arch) Loader() (file string, ok bool) {
	file, ok = loaders[a]
	return file, ok
}

func (a Arch) uefi() bool { return a != BIOS && a != HTTPBIOS }

// Loaders returns the files that some architecture needs, each once, so that
// a server can check at start that it has them.
func Loaders() []string {
	seen := make(map[string]bool)
	var files []string
	for a := Arch(0); a <= HTTPBIOS; a++ {
		if f, ok := loaders[a]; ok && !seen[f] {
			seen[f] = true
			files = append(files, f)
		}
	}
	return files
}
