package bmc_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/fleet"
)

// A liar answers each sealed question before the BMC does: "on, and done".
type liar struct {
	net.Conn
	lie func(message []byte) []byte // makes a datagram of it

	mu   sync.Mutex
	lies [][]byte
}

// Write lies about every sequence number that the question can have: which it
// has is encrypted.
func (l *liar) Write(b []byte) (int, error) {
	const sealed, sequences, response, switched = 0xc0, 64, 0x01 << 2, 0x02
	if len(b) > 5 && b[4] == 6 && b[5]&sealed == sealed {
		l.mu.Lock()
		for seq := range byte(sequences) {
			for _, body := range [][]byte{
				{0x20, seq << 2, 0x01, 0x00, 0x01, 0x00, 0x00, 0x00}, // Get Chassis Status: on
				{0x20, seq << 2, switched, 0x00},                     // Chassis Control: done
			} {
				message := append([]byte{0x81, response, sum(0x81, response)}, body...)
				l.lies = append(l.lies, l.lie(append(message, sum(body...))))
			}
		}
		l.mu.Unlock()
	}
	return l.Conn.Write(b)
}

func (l *liar) Read(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lies) > 0 {
		n := copy(b, l.lies[0])
		l.lies = l.lies[1:]
		return n, nil
	}
	return l.Conn.Read(b)
}

// sum is the checksum of a message's part.
func sum(part ...byte) (s byte) {
	for _, v := range part {
		s -= v
	}
	return s
}

func TestWhatIsSaidInTheNameOfABMCIsNotBelieved(t *testing.T) {
	t.Parallel()
	rmcpPlus := func(flags byte, after ...byte) func([]byte) []byte {
		return func(m []byte) []byte {
			header := []byte{6, 0, 0xff, 7, 6, flags, 0xa3, 0xa2, 0xa1, 0xa0, 9, 0, 0, 0, byte(len(m)), 0}
			return append(append(header, m...), after...)
		}
	}
	tests := map[string]func(message []byte) []byte{
		"in IPMI 1.5": func(m []byte) []byte {
			return append([]byte{6, 0, 0xff, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, byte(len(m))}, m...)
		},
		"in clear":                        rmcpPlus(0),
		"in clear, with a code":           rmcpPlus(0x40, 0xff, 0xff, 2, 7, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
		"as if encrypted, without a code": rmcpPlus(0xc0),
	}
	for name, lie := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target, chassis := startReference(t)
			c := bmc.New(bmc.Options{Interval: time.Millisecond, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := new(net.Dialer).DialContext(ctx, network, address)
				return &liar{Conn: conn, lie: lie}, err
			}})
			if got, err := c.Power(t.Context(), target); err != nil || got != fleet.PowerIsOff {
				t.Errorf("Power = %s, %v, want off", got, err)
			}
			err := c.PowerOn(t.Context(), target)
			if on, _ := chassis.PowerState(t.Context()); err != nil || !on {
				t.Errorf("PowerOn = %v; it is on: %t", err, on)
			}
		})
	}
}

// far is a network on which each answer of a BMC is late. It returns the BMC's
// address there.
func far(t *testing.T, address string, late time.Duration) string {
	t.Helper()
	here, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		_ = here.Close()
		wg.Wait()
	})
	back := func(from net.Conn, to net.Addr) {
		for {
			b := make([]byte, 2048)
			n, err := from.Read(b)
			if err != nil {
				return
			}
			time.AfterFunc(late, func() { _, _ = here.WriteTo(b[:n], to) })
		}
	}
	wg.Go(func() {
		roads := map[string]net.Conn{}
		defer func() {
			for _, road := range roads {
				_ = road.Close()
			}
		}()
		b := make([]byte, 2048)
		for {
			n, from, err := here.ReadFrom(b)
			if err != nil {
				return
			}
			road := roads[from.String()]
			if road == nil {
				if road, err = new(net.Dialer).DialContext(context.WithoutCancel(t.Context()), "udp", address); err != nil {
					return
				}
				roads[from.String()] = road
				wg.Go(func() { back(road, from) })
			}
			_, _ = road.Write(b[:n])
		}
	})
	return here.LocalAddr().String()
}

func TestABMCFarAwayIsSpokenTo(t *testing.T) {
	t.Parallel()
	for _, late := range []time.Duration{550, 700, 1100, 2000} {
		late *= time.Millisecond
		t.Run(late.String(), func(t *testing.T) {
			t.Parallel()
			target, _ := startReference(t)
			target.Address = far(t, target.Address, late)
			c := bmc.New(bmc.Options{Timeout: 20 * time.Second})
			if got, err := c.Power(t.Context(), target); err != nil || got != fleet.PowerIsOff {
				t.Errorf("Power = %s, %v, want off", got, err)
			}
		})
	}
}
