package image

// Debian's releases and where apt is configured, as this package uses them.
const (
	aptEtc   = "/etc/apt"
	bookworm = "bookworm" // what nodes get
	trixie   = "trixie"   // whose iPXE, shim and GRUB can do what we need; bookworm's are too old
)

// Architectures, as Debian names them.
const (
	AMD64 = "amd64"
	ARM64 = "arm64"
)
