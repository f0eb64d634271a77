package bmc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/bougou/go-ipmi/pkg/command/app"
	"github.com/bougou/go-ipmi/pkg/command/transport"
	"github.com/bougou/go-ipmi/pkg/types"
)

// A solConsole is a machine's serial console over IPMI.
type solConsole struct {
	target  Target
	drv     *ipmiSession
	owner   uint32 // our session that has the console, or had it last; 0: the BMC does not tell
	bitRate int    // between BMC and machine; 0: not known

	packets chan inbound
	output  chan []byte
	rest    []byte // of output, for Read
	keys    chan []byte
	breaks  chan struct{}
	ended   chan struct{} // the loop is over; err is set
	err     error
	closing chan struct{}
	close   sync.Once
	done    chan struct{} // all is released
	sol     sol
	pulse   pulse
}

// An inbound is a packet of the BMC: of the console, or an answer to our
// question whose it is.
type inbound struct {
	sol   *types.SOLPayloadPacket
	owner uint32
	known bool // owner was told
	err   error
}

const (
	solInstance    = 1
	consoleOutput  = 64 // packets that nobody has read yet; then the BMC waits
	closeConsoleIn = 5 * time.Second
)

// openSOL opens a console over IPMI. One that a lost session of ours still has is
// taken back; somebody else's is taken only when asked for. (Of a server that
// died, the BMC lets go within a minute.)
//
// It signs in with the least that may be enough, and with more when
// the BMC wants it.
func (c *Controller) openSOL(ctx context.Context, t Target, g *gate, o ConsoleOptions) (*solConsole, error) {
	var err error
	before := g.owned(0)
	for _, level := range []types.PrivilegeLevel{operator, administrator} {
		d, openErr := c.signIn(ctx, t, level)
		if openErr != nil {
			if err == nil { // else the first refusal says more
				err = openErr
			}
			return nil, err
		}
		console := &solConsole{target: t, drv: d, owner: before}
		if err = classify(console.activate(ctx, o)); err == nil {
			g.owned(console.owner)
			console.start(c.o.Pulse) //nolint:contextcheck // it lives on when it has been opened
			return console, nil
		}
		d.hangUp(ctx) // what went wrong before says more
		if !errors.Is(err, ErrConsoleRight) {
			return nil, err
		}
	}
	return nil, err
}

// activate asks for the console, once more when what held it was let go.
func (c *solConsole) activate(ctx context.Context, o ConsoleOptions) error {
	res, err := c.ask(ctx)
	if completion(err) == codeActive {
		if err := c.release(ctx, o); err != nil {
			return err
		}
		res, err = c.ask(ctx)
	}
	if err != nil {
		return nameOfActivation(err)
	}
	const header = 4
	c.sol.most = min(max(int(res.InboundPayloadSize)-header, 1), 200)
	c.owner = 0
	if info, err := c.drv.client.GetPayloadInstanceInfo(ctx, types.PayloadTypeSOL, solInstance); err == nil {
		c.owner = info.SessionID
	}
	if err := c.adjust(ctx); err != nil {
		return err
	}
	c.bitRate = c.readBitRate(ctx)
	return ctx.Err()
}

func (c *solConsole) ask(ctx context.Context) (*transport.ActivatePayloadResponse, error) {
	return c.drv.client.ActivatePayload(ctx, &transport.ActivatePayloadRequest{
		PayloadType: types.PayloadTypeSOL, PayloadInstance: solInstance,
		EnableEncryption: true, EnableAuthentication: true,
		// As ipmitool: alerts wait, rather than fail, on a shared port.
		SharedSerialAlertBehavior: transport.SharedSerialAlertBehavior_Defer,
	})
}

// release takes the console from who has it, when that is a session of ours
// that died, or nobody who can be found, or the caller wants it.
func (c *solConsole) release(ctx context.Context, o ConsoleOptions) error {
	if holder := c.holder(ctx); holder != "" && !o.Take {
		return fmt.Errorf("%w: %s", ErrConsoleHeld, holder)
	}
	_, err := c.drv.client.DeactivatePayload(ctx, &transport.DeactivatePayloadRequest{PayloadType: types.PayloadTypeSOL, PayloadInstance: solInstance})
	if completion(err) == codeActive { // it is deactivated already
		return nil
	}
	return nameOfActivation(err)
}

// holder says who else has the console; "" for ourselves and for nobody.
func (c *solConsole) holder(ctx context.Context) string {
	info, err := c.drv.client.GetPayloadInstanceInfo(ctx, types.PayloadTypeSOL, solInstance)
	if err != nil || info.SessionID == 0 || info.SessionID == c.owner {
		return ""
	}
	other, err := c.drv.client.GetSessionInfo(ctx, &app.GetSessionInfoRequest{SessionIndex: 0xff, SessionID: info.SessionID})
	if err != nil || other.RemoteConsoleIPAddr == nil || other.RemoteConsoleIPAddr.IsUnspecified() {
		return "a session that the BMC does not describe"
	}
	if mine, ok := c.drv.conn.LocalAddr().(*net.UDPAddr); ok && other.RemoteConsoleIPAddr.Equal(mine.IP) && c.sameUser(ctx, other.UserID) {
		return ""
	}
	return fmt.Sprintf("user %d from %s", other.UserID, other.RemoteConsoleIPAddr)
}

func (c *solConsole) sameUser(ctx context.Context, id uint8) bool {
	self, err := c.drv.client.GetCurrentSessionInfo(ctx)
	return err == nil && self.UserID == id
}

// bitRates are the values of the SOL parameters 5 and 6.
var bitRates = map[uint8]int{6: 9600, 7: 19200, 8: 38400, 9: 57600, 10: 115200}

const volatileBitRate = 6 // until the BMC starts anew

// adjust has the BMC speak as fast as the machine does, where it would not. It
// comes after activation, at which the BMC goes back to its stored bit rate.
func (c *solConsole) adjust(ctx context.Context) error {
	want := c.target.Quirks.BitRate
	if want == 0 || c.readBitRate(ctx) == want {
		return nil
	}
	for code, rate := range bitRates {
		if rate != want {
			continue
		}
		_, err := c.drv.client.SetSOLConfigParam(ctx, types.ChannelNumberSelf, volatileBitRate, []byte{code})
		if completion(err) == codeNoPrivilege {
			return fmt.Errorf("%w (set its bit rate: %v)", ErrConsoleRight, err)
		}
		if err != nil {
			return fmt.Errorf("set bit rate of the console: %w", err)
		}
	}
	return nil
}

func (c *solConsole) readBitRate(ctx context.Context) int {
	res, err := c.drv.client.GetSOLConfigParam(ctx, types.ChannelNumberSelf, volatileBitRate, 0, 0)
	if err != nil || len(res.ParamData) == 0 {
		return 0
	}
	return bitRates[res.ParamData[0]&0x0f]
}

// BitRate is the speed between the BMC and the machine's serial port; 0 when
// the BMC does not tell it. A machine that speaks at another one is garbage.
func (c *solConsole) BitRate() int { return c.bitRate }

// Read reads what the machine writes.
func (c *solConsole) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		select {
		case c.rest = <-c.output:
		default:
			select {
			case c.rest = <-c.output:
			case <-c.ended:
				select {
				case c.rest = <-c.output: // said before the end
				default:
					return 0, c.err
				}
			}
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// Write types on the machine's keyboard. It returns when the keys wait for the
// BMC.
func (c *solConsole) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		n := min(len(p), 256)
		select {
		case c.keys <- append([]byte(nil), p[:n]...):
		case <-c.ended:
			return written, c.err
		}
		written += n
		p = p[n:]
	}
	return written, nil
}

// Break holds the line, which Linux takes for the magic SysRq key.
func (c *solConsole) Break() error {
	select {
	case c.breaks <- struct{}{}:
		return nil
	case <-c.ended:
		return c.err
	}
}

// Close gives the console back to the BMC.
func (c *solConsole) Close() error {
	c.close.Do(func() { close(c.closing) })
	<-c.done
	return nil
}

// start begins to carry characters.
func (c *solConsole) start(every time.Duration) {
	c.packets, c.output = make(chan inbound, consoleOutput), make(chan []byte, consoleOutput)
	c.keys, c.breaks = make(chan []byte), make(chan struct{})
	c.ended, c.closing, c.done = make(chan struct{}), make(chan struct{}), make(chan struct{})
	c.pulse = newPulse(c.owner, every, time.Now())
	_ = c.drv.conn.SetReadDeadline(time.Time{}) // go-ipmi leaves its own
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		c.listen()
	}()
	go func() {
		defer close(c.done)
		err := c.run()
		if errors.Is(err, io.EOF) {
			c.err = io.EOF
		} else {
			c.err = trouble("follow console of", c.target, err)
		}
		close(c.ended)
		_ = c.drv.conn.SetReadDeadline(time.Unix(1, 0)) // the listener wakes up
		<-heard
		c.bye(errors.Is(err, io.EOF))
	}()
}

// bye gives console and session back, as far as the BMC still listens.
func (c *solConsole) bye(orderly bool) {
	ctx, cancel := context.WithTimeout(context.Background(), closeConsoleIn)
	defer cancel()
	if orderly {
		_, _ = c.drv.client.DeactivatePayload(ctx, &transport.DeactivatePayloadRequest{PayloadType: types.PayloadTypeSOL, PayloadInstance: solInstance})
	}
	c.drv.hangUp(ctx) // the session ends by itself when it is not heard
}
