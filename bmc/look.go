package bmc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/rackstage/provision/fleet"
)

// Look finds what is wrong with a BMC's IPMI that shows without signing in:
// cipher suite 0, and users without a name. One that does not speak IPMI has
// neither.
func (c *Controller) Look(ctx context.Context, t Target) ([]fleet.Finding, error) {
	const op = "look at BMC of"
	host, port, err := t.hostPort()
	if err != nil {
		return nil, invalid(op, t, err)
	}
	found, err := guard(ctx, c, t, func(ctx context.Context) ([]fleet.Finding, error) {
		conn, err := c.o.Dial(ctx, "udp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			return nil, reason(ctx, err)
		}
		defer conn.Close()
		stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
		defer stop()
		found, err := look(stranger{conn})
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return found, err
	})
	if errors.Is(err, ErrNoAnswer) || errors.Is(err, ErrClosed) {
		return nil, nil
	}
	return found, trouble(op, t, err)
}

func look(s stranger) ([]fleet.Finding, error) {
	var found []fleet.Finding
	// Get Channel Authentication Capabilities: this channel, as administrator.
	caps, err := s.ask(0x38, 0x8e, 0x04)
	if err != nil {
		return nil, classify(err)
	}
	if len(caps) > 2 && caps[2]&1 != 0 {
		found = append(found, fleet.Finding{Code: fleet.CodeBMCAnonymous, Detail: "it says that a user without name and password may sign in"})
	}
	// One that does not list its suites is from before there was such a list, or
	// has none.
	if listed, err := s.suites(); err == nil && listed[0] && s.opensWithZero() {
		found = append(found, fleet.Finding{Code: fleet.CodeBMCCipherZero, Detail: "it lists the suite, and opens a session with it"})
	}
	return found, nil
}

// A stranger asks a BMC what it tells to everybody.
type stranger struct{ conn net.Conn }

const (
	askTimes = 3
	askWait  = time.Second
)

// exchange sends a packet until one comes back that is good.
func (s stranger) exchange(packet []byte, good func(answer []byte) bool) ([]byte, error) {
	buf := make([]byte, 1024)
	for range askTimes {
		if err := s.conn.SetReadDeadline(time.Now().Add(askWait)); err != nil {
			return nil, err
		}
		if _, err := s.conn.Write(packet); err != nil {
			return nil, err
		}
		for range 8 { // what else may come
			n, err := s.conn.Read(buf)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return nil, err
			}
			if good(buf[:n]) {
				return buf[:n], nil
			}
		}
	}
	return nil, ErrNoAnswer
}

// Where things stand in an answer outside of a session: RMCP header (4), IPMI
// 1.5 session header (10), then the message.
const (
	messageAt = 4 + 10
	commandAt = messageAt + 5
	codeAt    = messageAt + 6
	dataAt    = messageAt + 7
)

// ask sends one command of the application group (NetFn 6) and returns the
// data of its answer.
func (s stranger) ask(command byte, data ...byte) ([]byte, error) {
	body := append([]byte{0x81, 0x00, command}, data...)
	message := append([]byte{0x20, 0x18, 0xc8}, body...)
	message = append(message, checksum(body))
	packet := append([]byte{0x06, 0x00, 0xff, 0x07, 0, 0, 0, 0, 0, 0, 0, 0, 0, byte(len(message))}, message...)
	answer, err := s.exchange(packet, func(b []byte) bool { return len(b) > dataAt && isIPMI(b) && b[4] == 0 && b[commandAt] == command })
	if err != nil {
		return nil, err
	}
	if answer[codeAt] != 0 {
		return nil, fmt.Errorf("%w: completion code %#02x", ErrRejected, answer[codeAt])
	}
	return answer[dataAt : len(answer)-1], nil // without the checksum
}

func checksum(b []byte) (sum byte) {
	for _, v := range b {
		sum -= v
	}
	return sum
}

// suites asks which cipher suites the BMC has, 16 bytes of its list at a time.
func (s stranger) suites() (map[byte]bool, error) {
	const most, part = 64, 16
	var list []byte
	for i := range byte(most) {
		data, err := s.ask(0x54, 0x0e, 0x00, 0x80|i) // this channel, for IPMI, by suite
		if err != nil {
			return nil, err
		}
		if len(data) < 1 {
			break
		}
		list = append(list, data[1:]...)
		if len(data)-1 < part {
			break
		}
	}
	return parseSuites(list), nil
}

// parseSuites reads the records of IPMI 2.0 table 22-18: a start byte, the
// suite's number, for those of a manufacturer his number, and then its
// algorithms, whose upper bits are never those of a start.
func parseSuites(list []byte) map[byte]bool {
	const standard, manufacturer, start = 0xc0, 0xc1, 0xc0
	suites := map[byte]bool{}
	for i := 0; i+1 < len(list); {
		switch list[i] {
		case standard:
			suites[list[i+1]] = true
			i += 2
		case manufacturer:
			i += 5
		default:
			return suites
		}
		for i < len(list) && list[i]&start != start {
			i++
		}
	}
	return suites
}

// opensWithZero asks for a session with cipher suite 0, and goes no further
// when it gets one: nobody signs in. The BMC forgets it after a minute.
func (s stranger) opensWithZero() bool {
	const algorithm = "\x00\x00\x00\x08\x00\x00\x00\x00\x01\x00\x00\x08\x00\x00\x00\x00\x02\x00\x00\x08\x00\x00\x00\x00"
	request := append([]byte{0x00, 0x04, 0, 0, 0xa0, 0xa2, 0xa3, 0xa4}, algorithm...)                                                                    // tag, as administrator, our session
	packet := append([]byte{0x06, 0x00, 0xff, 0x07, 0x06, 0x10, 0, 0, 0, 0, 0, 0, 0, 0}, binary.LittleEndian.AppendUint16(nil, uint16(len(request)))...) //nolint:gosec // 32
	answer, err := s.exchange(append(packet, request...), func(b []byte) bool {
		return len(b) > statusAt && b[3] == 0x07 && b[4] == 0x06 && b[5]&0x3f == 0x11
	})
	return err == nil && answer[statusAt] == 0
}
