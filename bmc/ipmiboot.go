package bmc

import (
	"context"

	"github.com/bougou/go-ipmi/pkg/types"

	"github.com/rackstage/provision/fleet"
)

// A bootWriter sets and shows boot flags, IPMI 2.0 table 28-14, parameter 5.
type bootWriter interface {
	writeBoot(ctx context.Context, b Boot) error
	bootFlags(ctx context.Context) (types.BootOptionParam_BootFlags, error)
}

// A bootFlagger is the part of an IPMI conversation that is about what boots.
type bootFlagger struct {
	w      bootWriter
	quirks fleet.BMCQuirks
	set    bool // in this conversation
	led    bool // it has shown that it follows, and never the flag "valid"
}

func (f *bootFlagger) setBoot(ctx context.Context, b Boot) error {
	err := f.w.writeBoot(ctx, b)
	f.set = err == nil
	return err
}

// boots reads back what is set. A BMC that keeps the device alone, as ipmi_sim
// does, never shows the flag "valid"; one that has forgotten an order may show
// the device of the last override that firmware has used up, without that flag
// too. So where this conversation has set the device, it is seen whether the BMC
// follows.
func (f *bootFlagger) boots(ctx context.Context, b Boot) (bool, error) {
	shown, err := f.w.bootFlags(ctx)
	if err != nil || b.agrees(shown, f.quirks) {
		return err == nil, err
	}
	if !f.set || !b.unmarked(shown, f.quirks) {
		return false, nil
	}
	return f.follows(ctx, b)
}

// follows sets no device, and then b again. With every other flag set, the first
// shows whether the BMC has no flags at all or says of these that they are void.
func (f *bootFlagger) follows(ctx context.Context, b Boot) (bool, error) {
	none := Boot{Device: NoDevice, Mode: UEFI}
	if err := f.w.writeBoot(ctx, none); err != nil {
		return false, err
	}
	before, err := f.w.bootFlags(ctx)
	if err != nil {
		return false, err
	}
	if err := f.w.writeBoot(ctx, b); err != nil {
		return false, err
	}
	after, err := f.w.bootFlags(ctx)
	if err != nil {
		return false, err
	}
	if b.agrees(after, f.quirks) {
		return true, nil
	}
	f.led = none.unmarked(before, f.quirks) && b.unmarked(after, f.quirks)
	return f.led, nil
}

// unmarks reports whether what was read back had no flag "valid".
func (f *bootFlagger) unmarks() bool { return f.led }

// agrees reports whether the BMC's boot flags are what was asked for.
func (b Boot) agrees(f types.BootOptionParam_BootFlags, q fleet.BMCQuirks) bool {
	if b.Device == NoDevice {
		return f.BootDeviceSelector == selectors[NoDevice] || !f.BootFlagsValid
	}
	return f.BootFlagsValid && f.BootDeviceSelector == selectors[b.Device] && b.flagged(f, q)
}

// unmarked reports whether the BMC's boot flags are what was asked for, from one
// that does not show the flag "valid": its device, and no flag at all, or the
// others as they were set when it is known that this one alone is missing.
func (b Boot) unmarked(f types.BootOptionParam_BootFlags, q fleet.BMCQuirks) bool {
	none := !bool(f.BIOSBootType) && !f.Persist
	return !f.BootFlagsValid && f.BootDeviceSelector == selectors[b.Device] && (none || q.BootNoValid && b.flagged(f, q))
}

// flagged reports whether mode and duration are what was asked for.
func (b Boot) flagged(f types.BootOptionParam_BootFlags, q fleet.BMCQuirks) bool {
	once := f.Persist == !b.Once || b.Once && q.OnceIsForEver
	return once && (q.BootNoMode || f.BIOSBootType == types.BIOSBootType(b.Mode != BIOS))
}
