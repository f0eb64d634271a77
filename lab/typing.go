package lab

import (
	"context"
	"fmt"
	"net"
	"strconv"
)

// keyboardPort is where QEMU waits for whoever types, beside the port of the
// BMC's side.
const keyboardPort = 100

// Type connects to the serial port of a running machine, as somebody who sits
// before it: what is written is typed. The BMC's side of the port is cut off
// until the machine's next power-on, because QEMU lets one in at a time.
func (r *Rack) Type(ctx context.Context, name string) (net.Conn, error) {
	b, err := r.bay(name)
	if err != nil {
		return nil, err
	}
	m, err := b.control(ctx)
	if err != nil {
		return nil, err
	}
	defer m.close()
	port := strconv.Itoa(b.SOLPort + keyboardPort)
	err = m.do("chardev-change", map[string]any{"id": "serial0", "backend": map[string]any{"type": "socket", "data": map[string]any{
		"addr":   map[string]any{"type": "inet", "data": map[string]any{"host": "127.0.0.1", "port": port}},
		"server": true, "wait": false, "logfile": b.path(consoleFile), "logappend": true,
	}}})
	if err != nil {
		return nil, fmt.Errorf("take the serial port of machine %s: %w", name, err)
	}
	return r.Dial(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
}
