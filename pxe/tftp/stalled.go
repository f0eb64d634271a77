package tftp

// Stalled reports whether the client agreed to large blocks, and then none of
// them came through, however often: something on the way to it drops what is
// longer than it likes. Who only asks for the size does not agree.
func (t Transfer) Stalled() bool {
	const dataToo = 2 // packets that are not the same: what was agreed, and a block
	again := dataToo * int64(max(1, t.Window))
	return t.Err != nil && t.Sent == 0 && t.Block > plainBlock && t.Packets-t.Resent >= dataToo && t.Resent >= again
}
