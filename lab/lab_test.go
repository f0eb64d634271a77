package lab

import (
	"context"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// The BMCs of the tests run this test program as their hook.
var testHook = []string{os.Args[0], "lab", "hook"}

// TestMain is also the programs that the tests need beside themselves.
func TestMain(m *testing.M) {
	if len(os.Args) > 3 && os.Args[1] == "lab" {
		if err := beside(context.Background(), os.Args[2], os.Args[3:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func beside(ctx context.Context, role string, args []string) error {
	switch role {
	case "hook":
		return Hook(ctx, args[0], args[1:], os.Stdout)
	case "crash":
		return crash(ctx, args[0], args[1])
	}
	return fmt.Errorf("unknown role %q", role)
}

// crash builds a rack with a running machine, and waits to be killed.
func crash(ctx context.Context, dir, name string) error {
	r, err := Up(ctx, Options{Name: name, Dir: dir, Machines: []Machine{small(BIOS)}, HookCommand: testHook, Accel: TCG})
	if err != nil {
		return err
	}
	if err := r.PowerOn(ctx, "n1"); err != nil {
		return err
	}
	if err := r.Start(r.Command(ctx, "sleep", "300")); err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, "ready")
	select {}
}

// small is a machine that only its firmware has to fit in.
func small(f Firmware) Machine { return Machine{Firmware: f, MemoryMiB: 256, DiskMiB: 16} }
