package disk

import (
	"encoding/hex"

	"github.com/rackstage/provision/agent/fault"
	"github.com/rackstage/provision/api"
)

// MaxChunk is the largest chunk that we accept.
const MaxChunk = 16 * mib

// CheckIndex refuses a list of chunks that does not make one image without
// gaps, or one that does not fit into size bytes.
func CheckIndex(ix api.ImageIndex, size int64) error {
	var at int64
	for i, c := range ix.Chunks {
		switch raw, err := hex.DecodeString(c.ID); {
		case c.Offset != at:
			return fault.Errorf(fault.ImageIndex, "image %s: chunk %d is at %d, not at %d", ix.Name, i, c.Offset, at)
		case c.Size <= 0 || c.Size > MaxChunk && !c.Zero:
			return fault.Errorf(fault.ImageIndex, "image %s: chunk %d has %d bytes", ix.Name, i, c.Size)
		case !c.Zero && (err != nil || len(raw) != 32):
			return fault.Errorf(fault.ImageIndex, "image %s: chunk %d has no proper ID", ix.Name, i)
		}
		if at += c.Size; at < 0 || at > ix.Size {
			break
		}
	}
	if at != ix.Size || at == 0 {
		return fault.Errorf(fault.ImageIndex, "image %s: chunks make %d bytes, the image has %d", ix.Name, at, ix.Size)
	}
	if ix.Size > size {
		return fault.Errorf(fault.DiskSmall, "image %s needs %d bytes, the disk has %d", ix.Name, ix.Size, size)
	}
	return nil
}
