package tftp

import (
	"net/netip"
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

func TestBlocksFitTheWayToTheClient(t *testing.T) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends, and its namespace with it
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Errorf("make a network namespace (as root: make test does): %v", err)
			return
		}
		for mtu, want := range map[string]map[string]int{
			"1400":  {"127.0.0.1": 1400 - 32, "::1": 1400 - 52},
			"9000":  {"127.0.0.1": maxBlock, "::1": maxBlock6},
			"1280":  {"127.0.0.1": 1280 - 32, "::1": 1280 - 52},
			"65536": {"127.0.0.1": maxBlock, "::1": maxBlock6},
		} {
			if out, err := exec.CommandContext(t.Context(), "ip", "link", "set", "lo", "up", "mtu", mtu).CombinedOutput(); err != nil {
				t.Errorf("ip link set: %v: %s", err, out)
				return
			}
			for to, room := range want {
				if got := roomTo(peer{ap: netip.AddrPortFrom(netip.MustParseAddr(to), 9)}); got != room {
					t.Errorf("mtu %s: blocks of %d to %s, want %d", mtu, got, to, room)
				}
			}
		}
	}()
	<-done
}
