package image

// Debian's releases and where apt is configured, as this package uses them.
const (
	aptEtc   = "/etc/apt"
	bookworm = "bookworm" // what nodes get
	trixie   = "trixie"   // whose iPXE can do what we need; bookworm's is of 2019
)
