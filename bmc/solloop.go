package bmc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/bougou/go-ipmi/pkg/command/transport"
	"github.com/bougou/go-ipmi/pkg/types"
)

// A pulse finds out whether the BMC still lives and the console is still ours.
// Its question keeps the session alive too: a BMC drops one that is silent for
// a minute.
type pulse struct {
	owner  uint32
	every  time.Duration
	asked  time.Time // the last question
	heard  time.Time // the last packet
	others int       // answers in a row that name another owner
}

const (
	pulseRetry  = 4 * time.Second  // when the BMC is silent after a question, or names somebody else
	pulseSilent = 25 * time.Second // after a question
	pulseOthers = 2
)

func newPulse(owner uint32, every time.Duration, now time.Time) pulse {
	return pulse{owner: owner, every: every, asked: now, heard: now}
}

// next says when to ask.
func (p *pulse) next() time.Time {
	if p.heard.Before(p.asked) || p.others > 0 {
		return p.asked.Add(min(pulseRetry, p.every))
	}
	return p.asked.Add(p.every)
}

// answer hears whose the console is, and reports whether it is ours. A single
// answer may be to an older question.
func (p *pulse) answer(owner uint32) bool {
	if p.owner == 0 || owner == p.owner {
		p.others = 0
		return true
	}
	p.others++
	return p.others < pulseOthers
}

// listen reads what the BMC sends until the socket fails.
func (c *solConsole) listen() {
	buf := make([]byte, 4<<10)
	for {
		n, err := c.drv.conn.Read(buf)
		in, ok := inbound{err: err}, true
		if err == nil {
			in, ok = c.parse(buf[:n])
		}
		if !ok {
			continue
		}
		select {
		case c.packets <- in:
		case <-c.ended:
			return
		}
		if err != nil {
			return
		}
	}
}

// parse reads a datagram. Anybody can send one.
func (c *solConsole) parse(b []byte) (in inbound, ok bool) {
	rmcp := &types.Rmcp{}
	if rmcp.Unpack(b) != nil || rmcp.Session20 == nil {
		return in, false
	}
	h := rmcp.Session20.SessionHeader20
	if !h.PayloadEncrypted || !h.PayloadAuthenticated {
		return in, false // everybody could have said it
	}
	ctx := context.Background() // of which the parser makes nothing
	switch h.PayloadType {
	case types.PayloadTypeSOL:
		var res types.SOLPayloadResponse
		if c.drv.client.ParseRmcpResponse(ctx, b, types.CommandSOLPayload, &res) != nil {
			return in, false
		}
		return inbound{sol: &res.SOLPayloadPacket}, true
	case types.PayloadTypeIPMI:
		var res transport.GetPayloadInstanceInfoResponse
		err := c.drv.client.ParseRmcpResponse(ctx, b, types.CommandGetPayloadInstanceInfo, &res)
		return inbound{owner: res.SessionID, known: err == nil}, true
	default:
		return in, false
	}
}

// run carries characters until the console is closed or lost.
func (c *solConsole) run() error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		again, err := c.send(time.Now())
		if err != nil {
			return err
		}
		timer.Reset(time.Until(again))
		keys := c.keys
		if len(c.sol.keys) >= solMaxKeys {
			keys = nil
		}
		select {
		case <-c.closing:
			return io.EOF
		case in := <-c.packets:
			err = c.receive(in, time.Now())
		case k := <-keys:
			c.sol.keys = append(c.sol.keys, k...)
		case <-c.breaks:
			c.sol.breaks = min(c.sol.breaks+1, 4)
		case <-timer.C:
		}
		if err != nil {
			return err
		}
	}
}

// send sends what is due, and says when something will be.
func (c *solConsole) send(now time.Time) (again time.Time, err error) {
	if now.Sub(c.pulse.heard) > c.pulse.every+pulseSilent {
		return again, fmt.Errorf("%w any more", ErrNoAnswer)
	}
	again = c.pulse.next()
	if !now.Before(again) {
		c.pulse.asked = now
		again = c.pulse.next()
		if err := c.transmit(&transport.GetPayloadInstanceInfoRequest{PayloadType: types.PayloadTypeSOL, PayloadInstance: solInstance}); err != nil {
			return again, err
		}
	}
	p, soon, alive := c.sol.next(now)
	if !alive {
		return again, fmt.Errorf("%w any more", ErrNoAnswer)
	}
	if p != nil {
		if err := c.transmit(&types.SOLPayloadRequest{SOLPayloadPacket: *p}); err != nil {
			return again, err
		}
	}
	if !soon.IsZero() && soon.Before(again) {
		again = soon
	}
	return again, nil
}

// transmit sends one packet in our session. A network that is away for a
// moment is not the end: the pulse decides.
func (c *solConsole) transmit(r types.Request) error {
	rmcp, err := c.drv.client.BuildRmcpRequest(context.Background(), r)
	if err != nil {
		return fmt.Errorf("%w (%v)", ErrRejected, err)
	}
	if _, err := c.drv.conn.Write(rmcp.Pack()); errors.Is(err, net.ErrClosed) {
		return classify(err)
	}
	return nil
}

func (c *solConsole) receive(in inbound, now time.Time) error {
	if in.err != nil {
		return classify(in.err)
	}
	c.pulse.heard = now
	if in.sol == nil {
		if in.known && !c.pulse.answer(in.owner) {
			return ErrConsoleTaken
		}
		return nil
	}
	fresh, answer, ours := c.sol.take(*in.sol, now)
	if answer != nil {
		if err := c.transmit(&types.SOLPayloadRequest{SOLPayloadPacket: *answer}); err != nil {
			return err
		}
	}
	if len(fresh) > 0 {
		select {
		case c.output <- fresh:
		case <-c.closing:
			return io.EOF
		}
	}
	if !ours {
		return ErrConsoleTaken
	}
	return nil
}
