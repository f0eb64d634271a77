package http

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/coder/websocket"
	"github.com/labstack/echo/v4"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/console"
	"github.com/rackstage/provision/fleet"
)

// Limits of consoles that people have open.
const (
	maxConsoles  = 256
	consoleRead  = 32 << 10         // in one message of a client
	consolePing  = 20 * time.Second // also how soon a console notices that its viewer was signed out
	consolePong  = 30 * time.Second // a paste may be in the way
	consoleWrite = 20 * time.Second
	maxTyping    = 64 // messages that wait for the machine
)

func (s *Server) consoleOf(ref string) (fleet.Node, error) {
	if s.o.Consoles == nil {
		return fleet.Node{}, newProblem(http.StatusNotFound, "E-CONSOLE", "this server has no consoles", "")
	}
	return s.o.Engine.Node(ref)
}

// serialSocket connects a person with the serial console of a node.
func (s *Server) serialSocket(c echo.Context) error {
	req := c.Request()
	n, err := s.consoleOf(c.Param("ref"))
	if err != nil {
		return err
	}
	who := callerOf(req.Context())
	if who.cookie && req.Header.Get("Origin") == "" { // browsers send it; the library compares it
		return newProblem(http.StatusForbidden, "E-ORIGIN", "the request does not say which page it comes from", "")
	}
	select {
	case s.serials <- struct{}{}:
		defer func() { <-s.serials }()
	default:
		return newProblem(http.StatusServiceUnavailable, "E-STREAMS", "too many consoles are open", "close some of them, or try again later")
	}
	conn, err := websocket.Accept(c.Response(), req, &websocket.AcceptOptions{Subprotocols: []string{api.ConsoleProtocol}})
	if err != nil {
		s.o.Log.DebugContext(req.Context(), "console not connected", "err", err)
		return nil // the library has answered
	}
	conn.SetReadLimit(consoleRead)
	defer conn.CloseNow() //nolint:errcheck // most are closed before
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(req.Context()))
	defer cancel(nil)
	t := &terminal{s: s, conn: conn, node: n, who: who.identity.User, keys: make(chan []byte, maxTyping), cancel: cancel, listens: make(chan struct{})}
	t.serve(ctx, req)
	return nil
}

// A terminal is a person at a console. Whoever reads or writes under a context
// that ends closes the connection, before the person is told why: so the end of
// the context does not reach the connection, which end closes.
type terminal struct {
	s      *Server
	conn   *websocket.Conn
	node   fleet.Node
	who    string
	watch  *console.Watcher
	keys   chan []byte // nil: a break
	cancel context.CancelCauseFunc
	typed  bool // took the keyboard, ever

	listens chan struct{} // closed when somebody reads what the person sends
}

func (t *terminal) serve(ctx context.Context, req *http.Request) {
	go t.guard(ctx, req)
	took := req.URL.Query().Get("take") != ""
	watch, recent, err := t.s.o.Consoles.Watch(ctx, t.node.ID, t.who, took)
	if err != nil {
		t.end(ctx, err)
		return
	}
	defer watch.Close()
	t.watch = watch
	began := time.Now()
	t.audit(ctx, map[bool]string{false: "opened the console", true: "opened the console, taking it from whoever has it"}[took])
	defer func() { t.audit(ctx, fmt.Sprintf("left the console after %s", time.Since(began).Round(time.Second))) }()
	err = t.tell(ctx, api.ConsoleMessage{Ready: true})
	if err == nil && len(recent) > 0 {
		err = t.write(ctx, websocket.MessageBinary, recent)
	}
	if err == nil {
		go t.listen(ctx)
		go t.typeKeys(ctx)
		err = t.follow(ctx)
	}
	t.end(ctx, err)
}

// guard ends a console whose other end is gone, whose person may not see it any
// more, or whose server stops.
func (t *terminal) guard(ctx context.Context, req *http.Request) {
	tick := time.NewTicker(consolePing)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.s.closing:
			t.cancel(&fleet.Error{Kind: fleet.Unreachable, Code: "E-STOPPING", Op: "follow console", Err: errors.New("the server is stopping"), Hint: "try again in a moment"})
			return
		case <-tick.C:
		}
		if _, err := t.s.identify(req, operators); err != nil {
			t.cancel(err)
			return
		}
		select {
		case <-t.listens:
		default:
			continue // a pong would not be read
		}
		ping, cancel := context.WithTimeout(context.WithoutCancel(ctx), consolePong)
		err := t.conn.Ping(ping)
		cancel()
		if err != nil {
			t.cancel(io.EOF)
			return
		}
	}
}

// follow sends what happens on the console.
func (t *terminal) follow(ctx context.Context) error {
	for {
		var err error
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case m, ok := <-t.watch.Messages():
			if !ok {
				return t.watch.Err()
			}
			switch m.Kind {
			case console.Output:
				err = t.write(ctx, websocket.MessageBinary, m.Data)
			case console.Notice:
				err = t.tell(ctx, api.ConsoleMessage{Notice: fleet.CleanText(m.Text)})
			case console.Writers:
				err = t.tell(ctx, api.ConsoleMessage{Writers: &m.Text})
			}
		}
		if err != nil {
			return err
		}
	}
}

// listen takes in what the person sends.
func (t *terminal) listen(ctx context.Context) {
	close(t.listens)
	for {
		kind, data, err := t.conn.Read(context.WithoutCancel(ctx))
		if err != nil {
			t.cancel(io.EOF)
			return
		}
		if kind == websocket.MessageText {
			if !t.command(ctx, data) {
				continue
			}
			data = nil // a break, in its place between the keys
		}
		select {
		case t.keys <- data:
		case <-ctx.Done():
			return
		}
	}
}

// command reads what is not keys, and reports whether it is a break.
func (t *terminal) command(ctx context.Context, data []byte) bool {
	var m api.ConsoleMessage
	if checkDepth(data, maxDepth) != nil || json.Unmarshal(data, &m) != nil {
		t.cancel(newProblem(http.StatusBadRequest, "E-BODY", "this is no message of a console", ""))
		return false
	}
	if m.Keyboard != nil {
		t.watch.Keyboard(*m.Keyboard)
		if *m.Keyboard && !t.typed {
			t.typed = true
			t.audit(ctx, "took the keyboard of the console")
		}
	}
	if m.Break {
		t.audit(ctx, "sent a break to the console")
	}
	return m.Break
}

// typeKeys hands keys to the machine, which may take its time.
func (t *terminal) typeKeys(ctx context.Context) {
	for {
		var keys []byte
		select {
		case keys = <-t.keys:
		case <-ctx.Done():
			return
		}
		var err error
		if keys == nil {
			err = t.watch.Break()
		} else {
			err = t.watch.Type(keys)
		}
		if err != nil && ctx.Err() == nil {
			_ = t.tell(ctx, api.ConsoleMessage{Notice: fleet.CleanText(reason(err))}) // who is gone hears nothing
		}
	}
}

func (t *terminal) audit(ctx context.Context, what string) {
	ctx = context.WithoutCancel(ctx)
	if err := t.s.o.Engine.ConsoleUsed(ctx, t.who, t.node.ID, what); err != nil {
		t.s.o.Log.ErrorContext(ctx, "use of console not stored", "node", t.node.ID, "user", t.who, "what", what, "err", err)
	}
}

func (t *terminal) tell(ctx context.Context, m api.ConsoleMessage) error {
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return t.write(ctx, websocket.MessageText, raw)
}

func (t *terminal) write(ctx context.Context, kind websocket.MessageType, data []byte) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), consoleWrite)
	defer cancel()
	return t.conn.Write(ctx, kind, data)
}

// end says why it is over, as far as anybody still listens.
func (t *terminal) end(ctx context.Context, err error) {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if err == nil || errors.Is(err, io.EOF) || websocket.CloseStatus(err) != -1 {
		_ = t.conn.Close(websocket.StatusNormalClosure, "") // it may be closed already
		return
	}
	if errors.Is(err, console.ErrSlow) {
		err = newProblem(http.StatusTooManyRequests, "E-CONSOLE-SLOW", err.Error(), "open it again")
	}
	_ = t.tell(ctx, api.ConsoleMessage{Error: t.s.report(ctx, err).Problem})
	_ = t.conn.Close(websocket.StatusInternalError, "")
}
