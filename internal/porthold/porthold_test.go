package porthold

import (
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestTheHolderOfAPortIsNamed(t *testing.T) {
	var lc net.ListenConfig
	tests := map[string]func(t *testing.T) (port int, again func() error){
		"udp": func(t *testing.T) (int, func() error) {
			t.Helper()
			c, err := lc.ListenPacket(t.Context(), "udp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			return c.LocalAddr().(*net.UDPAddr).Port, func() error {
				_, err := lc.ListenPacket(t.Context(), "udp4", c.LocalAddr().String())
				return err
			}
		},
		"tcp": func(t *testing.T) (int, func() error) {
			t.Helper()
			l, err := lc.Listen(t.Context(), "tcp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
			return l.Addr().(*net.TCPAddr).Port, func() error {
				_, err := lc.Listen(t.Context(), "tcp4", l.Addr().String())
				return err
			}
		},
	}
	for network, open := range tests {
		t.Run(network, func(t *testing.T) {
			port, again := open(t)
			h, ok := Find(network, port)
			if !ok || h.PID != os.Getpid() {
				t.Errorf("Find = %v, %t, want this process, pid %d", h, ok, os.Getpid())
			}
			err := Explain(network, port, again())
			if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), h.String()) {
				t.Errorf("Explain = %v, want it to name %s", err, h)
			}
		})
	}
}

func TestAnyOtherErrorStaysAsItIs(t *testing.T) {
	want := errors.New("no such device")
	if got := Explain("udp", 67, want); !errors.Is(got, want) || got.Error() != want.Error() {
		t.Errorf("Explain = %v, want %v", got, want)
	}
}

func TestAPortThatNobodyHoldsHasNoHolder(t *testing.T) {
	if h, ok := Find("udp", 1); ok {
		t.Errorf("Find = %v, want nobody", h)
	}
}

func TestTheTableOfTheKernelIsRead(t *testing.T) {
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
    0: 00000000:0043 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 0
    1: 0100007F:0143 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4712 2 0000000000000000 0
 garbage
`
	got := inodesOf(strings.NewReader(table), false, 67)
	if len(got) != 1 || !got["socket:[4711]"] {
		t.Errorf("inodesOf = %v, want only socket:[4711]", got)
	}
}
