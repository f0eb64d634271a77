package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"
)

// A monitor is a connection to QEMU's control socket: JSON lines, see QEMU's
// docs/interop/qmp-spec.
type monitor struct {
	conn net.Conn
	dec  *json.Decoder
}

const monitorWithin = 10 * time.Second

type qmpMessage struct {
	Return json.RawMessage `json:"return"`
	Event  string          `json:"event"`
	Error  *struct {
		Desc string `json:"desc"`
	} `json:"error"`
}

// control opens the monitor of the running machine.
func (b *bay) control(ctx context.Context) (*monitor, error) {
	dir, err := os.Open(b.dir)
	if err != nil {
		return nil, fmt.Errorf("open directory of machine %s: %w", b.Machine.Name, err)
	}
	defer dir.Close()
	// By way of the open directory, however long its path is.
	path := "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/" + qmpSocket
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("open monitor of machine %s: %w", b.Machine.Name, err)
	}
	if err := conn.SetDeadline(time.Now().Add(monitorWithin)); err != nil {
		conn.Close()
		return nil, fmt.Errorf("set deadline: %w", err)
	}
	m := &monitor{conn: conn, dec: json.NewDecoder(conn)}
	var greeting struct{ QMP json.RawMessage }
	if err := m.dec.Decode(&greeting); err != nil {
		conn.Close()
		return nil, fmt.Errorf("read greeting of machine %s: %w", b.Machine.Name, err)
	}
	if err := m.do("qmp_capabilities", nil); err != nil {
		conn.Close()
		return nil, err
	}
	return m, nil
}

func (m *monitor) close() { m.conn.Close() }

// do gives one command and waits for its answer.
func (m *monitor) do(command string, arguments map[string]any) error {
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	if err := json.NewEncoder(m.conn).Encode(request); err != nil {
		return fmt.Errorf("send %s: %w", command, err)
	}
	msg, err := m.next(func(q qmpMessage) bool { return q.Event == "" })
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	if msg.Error != nil {
		return fmt.Errorf("%s: %s", command, msg.Error.Desc)
	}
	return nil
}

// wait waits for an event.
func (m *monitor) wait(event string) error {
	_, err := m.next(func(q qmpMessage) bool { return q.Event == event })
	return err
}

// next reads until a message is wanted; the connection's deadline bounds it.
func (m *monitor) next(wanted func(qmpMessage) bool) (qmpMessage, error) {
	for {
		var q qmpMessage
		if err := m.dec.Decode(&q); err != nil {
			return q, fmt.Errorf("read from monitor: %w", err)
		}
		if wanted(q) {
			return q, nil
		}
	}
}

// order changes the boot order for the resets to come.
func (m *monitor) order(device string, drive bool) error {
	type step struct {
		id    string
		index int
	}
	nic, disk, cd := bootOrder(device)
	steps := []step{{"nic0", -1}, {"disk0", -1}, {"disk0", disk}, {"nic0", nic}} // no index may be taken, not even by itself
	if drive {
		steps = append(append([]step{{"cd0", -1}}, steps...), step{"cd0", cd})
	}
	for _, s := range steps {
		err := m.do("qom-set", map[string]any{
			"path": "/machine/peripheral/" + s.id, "property": "bootindex", "value": s.index,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *bay) orderBoot(ctx context.Context, device string) error {
	m, err := b.control(ctx)
	if err != nil {
		return err
	}
	defer m.close()
	return m.order(device, b.Machine.BMC.redfish())
}

// reset is the reset button: it honours the boot override, as a start does.
func (b *bay) reset(ctx context.Context) error {
	if !b.running() {
		return errors.New("the machine is off")
	}
	next := b.boot()
	if next.Device == bootHTTP {
		// The firmware reads the address where it keeps its variables, which
		// are those of the running machine until it is switched off.
		if err := b.stop(); err != nil {
			return err
		}
		return b.start(ctx)
	}
	m, err := b.control(ctx)
	if err != nil {
		return err
	}
	defer m.close()
	drive := b.Machine.BMC.redfish()
	if err := m.order(next.Device, drive); err != nil {
		return err
	}
	if err := b.mark("reset"); err != nil {
		return err
	}
	if err := m.do("system_reset", nil); err != nil {
		return err
	}
	if next.reorders() && !next.Always {
		if err := errors.Join(m.wait("RESET"), m.order("", drive)); err != nil {
			return err
		}
	}
	return b.booted(next)
}

// press is the power button, pressed for a moment: the operating system is
// asked to shut down, and may not listen.
func (b *bay) press(ctx context.Context) error {
	if !b.running() {
		return nil
	}
	m, err := b.control(ctx)
	if err != nil {
		return err
	}
	defer m.close()
	return m.do("system_powerdown", nil)
}

// interrupt sends a non-maskable interrupt.
func (b *bay) interrupt(ctx context.Context) error {
	m, err := b.control(ctx)
	if err != nil {
		return err
	}
	defer m.close()
	return m.do("inject-nmi", nil)
}
