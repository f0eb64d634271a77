package bmctest

import (
	"io"
	"net"
	"sync"
	"testing"
)

// A Line is a machine's serial port, seen from the machine: it writes to whoever
// reads the port, and notes what is typed there.
type Line struct {
	mu    sync.Mutex
	to    io.Writer // of who came last; nil: nobody reads
	typed []byte
}

// Print has the machine write to its serial port. It returns false when nobody
// reads there.
func (l *Line) Print(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.to == nil {
		return false
	}
	_, err := io.WriteString(l.to, text)
	return err == nil
}

// Typed is what the machine was sent.
func (l *Line) Typed() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.typed)
}

// connect puts somebody at the port, until he goes.
func (l *Line) connect(c io.ReadWriter) {
	l.mu.Lock()
	l.to = c
	l.mu.Unlock()
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		l.mu.Lock()
		l.typed = append(l.typed, buf[:n]...)
		if err != nil && l.to == c {
			l.to = nil
		}
		l.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// A SerialPort is the machine's end of a line that a BMC connects to, as to a
// QEMU.
type SerialPort struct {
	Line
	Addr string
}

// OpenSerialPort opens one until the test ends.
func OpenSerialPort(t *testing.T) *SerialPort {
	t.Helper()
	p := &SerialPort{}
	p.Addr = listen(t, func(c net.Conn) { p.connect(c) }).addr
	return p
}

// A door is a port of loopback, and who came through it.
type door struct {
	addr string

	mu    sync.Mutex
	conns []net.Conn
}

// listen serves each connection to a port until the test ends.
func listen(t *testing.T, serve func(net.Conn)) *door {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &door{addr: l.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			d.mu.Lock()
			d.conns = append(d.conns, c)
			d.mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		d.hangUp()
		wg.Wait()
	})
	return d
}

// hangUp ends the connections that there are.
func (d *door) hangUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.conns {
		c.Close()
	}
}
