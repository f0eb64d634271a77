package fleet

// An Image is a raw disk image in the image store.
type Image struct {
	Name   ImageName
	Digest string // "sha256:…" of the raw image
	Bytes  int64  // size of the raw image: the least that a disk must have
}
