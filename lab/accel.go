package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// An Accelerator is how QEMU runs the machines' code.
type Accelerator string

// The accelerators that a rack can use.
const (
	KVM Accelerator = "kvm" // the host's processor
	TCG Accelerator = "tcg" // emulation
)

func (a Accelerator) argument() string {
	if a == KVM {
		return "kvm"
	}
	// The default buffer for translated code takes a quarter of the memory of
	// the host per machine, or 1 GiB.
	return "tcg,thread=multi,tb-size=256"
}

// A trial is a boot sector: a loop of 20 million rounds, then the status that
// makes QEMU exit with trialStatus. On a processor the loop takes some 10 ms.
//
//	66 b9 00 2d 31 01   mov ecx, 20000000
//	67 e2 fd            loop $
//	b0 21               mov al, 0x21
//	e6 f4               out 0xf4, al
//	fa f4 eb fd         cli; hlt; jmp
var trial = [...]byte{
	0x66, 0xb9, 0x00, 0x2d, 0x31, 0x01, 0x67, 0xe2, 0xfd,
	0xb0, 0x21, 0xe6, 0xf4, 0xfa, 0xf4, 0xeb, 0xfd,
}

const (
	trialStatus = 0x21<<1 | 1 // isa-debug-exit
	trialWithin = 3 * time.Second
)

// FindAccelerator says which accelerator works on this host. KVM is tried with
// a guest that boots and computes, under the settings that the machines get:
// /dev/kvm is often there and does not work, or works far slower than none.
func FindAccelerator(ctx context.Context) Accelerator {
	if tryAccelerator(ctx, KVM) == nil {
		return KVM
	}
	return TCG
}

func tryAccelerator(ctx context.Context, a Accelerator) error {
	dir, err := os.MkdirTemp("", "lab-trial-")
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	defer os.RemoveAll(dir)
	disk := filepath.Join(dir, "disk.img")
	if err := os.WriteFile(disk, trialDisk(), 0o600); err != nil {
		return fmt.Errorf("write trial disk: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, trialWithin)
	defer cancel()
	err = exec.CommandContext(ctx, qemuBinary, "-accel", a.argument(), "-machine", "q35,graphics=off", "-cpu", "max",
		"-m", "64", "-nodefaults", "-display", "none", "-no-reboot",
		"-device", "isa-debug-exit,iobase=0xf4,iosize=4",
		"-drive", "if=none,id=d,format=raw,file="+comma(disk), "-device", "virtio-blk-pci,drive=d,bootindex=1").Run()
	if ctx.Err() != nil {
		return fmt.Errorf("the trial guest did not end: %w", ctx.Err())
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == trialStatus {
		return nil
	}
	return fmt.Errorf("the trial guest did not run: %w", err)
}

func trialDisk() []byte {
	b := make([]byte, 1<<20) // SeaBIOS does not boot from a disk of one sector
	copy(b, trial[:])
	b[510], b[511] = 0x55, 0xaa
	return b
}
