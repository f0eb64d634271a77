package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/term"

	"github.com/rackstage/provision/api"
)

// A seat is a person's place before a machine's console.
type seat struct {
	a    *app
	conn *websocket.Conn
	node string
	raw  bool // the terminal sends every key
}

const (
	longestMessage = 1 << 20 // of the server
	sayWithin      = 20 * time.Second
)

// sitBefore connects the terminal with a console until the person leaves.
func (a *app) sitBefore(ctx context.Context, srv server, ref string, o consoleOptions) error {
	conn, err := a.openConsole(ctx, srv, ref, o.take)
	if err != nil {
		return err
	}
	defer conn.CloseNow() //nolint:errcheck // what matters was said before
	s := &seat{a: a, conn: conn, node: ref}
	types := a.terminal && !o.readOnly
	return s.follow(ctx, types)
}

func (a *app) openConsole(ctx context.Context, srv server, ref string, take bool) (*websocket.Conn, error) {
	path := api.ConsolePath(ref)
	if take {
		path += "?take=1"
	}
	address, client, header := srv.Socket(path)
	conn, res, err := websocket.Dial(ctx, address, &websocket.DialOptions{ //nolint:bodyclose // the library has closed it
		HTTPClient: client, HTTPHeader: header, Subprotocols: []string{api.ConsoleProtocol},
	})
	switch {
	case err == nil:
		conn.SetReadLimit(longestMessage)
		return conn, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case res != nil && res.StatusCode >= http.StatusBadRequest:
		return nil, api.ReadProblem(res)
	}
	return nil, &api.UnreachableError{Server: a.serverTitle(), Err: err}
}

// follow shows what the machine writes until the end.
func (s *seat) follow(ctx context.Context, types bool) error {
	ctx, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	restore := func() {}
	defer func() { restore() }()
	for {
		kind, data, err := s.conn.Read(ctx)
		if err != nil {
			return s.ended(ctx, err)
		}
		if kind == websocket.MessageBinary {
			if _, err := s.a.stdout.Write(data); err != nil {
				return fmt.Errorf("write output: %w", err)
			}
			continue
		}
		var m api.ConsoleMessage
		if err := json.Unmarshal(data, &m); err != nil {
			return fmt.Errorf("read message of %s: %w", s.a.serverTitle(), err)
		}
		if m.Error != nil {
			return m.Error
		}
		if m.Ready {
			if restore, err = s.ready(ctx, leave, types); err != nil {
				return err
			}
			continue
		}
		s.hear(m)
	}
}

// ended tells how it ended: the person left, or the server did.
func (s *seat) ended(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	switch {
	case errors.Is(cause, errLeft):
		return nil
	case cause != nil:
		return cause
	case websocket.CloseStatus(err) == websocket.StatusNormalClosure:
		return nil
	}
	return &api.UnreachableError{Server: s.a.serverTitle(), Err: err}
}

var errLeft = errors.New("left")

// ready begins to read the keyboard. The returned function makes the terminal as
// it was.
func (s *seat) ready(ctx context.Context, leave context.CancelCauseFunc, types bool) (restore func(), err error) {
	restore = func() {}
	if !types {
		s.say("connected to the console of %s, reading only; Ctrl-C to leave", s.node)
		return restore, nil
	}
	stdin := int(os.Stdin.Fd())
	before, err := term.MakeRaw(stdin)
	if err != nil {
		return restore, fmt.Errorf("set terminal: %w", err)
	}
	s.raw = true
	s.say("connected to the console of %s; ~. to leave, ~? for help", s.node)
	yes := true
	if s.send(ctx, api.ConsoleMessage{Keyboard: &yes}) != nil {
		go s.hangUp(ctx)
	} else {
		go s.typing(ctx, leave)
	}
	return func() {
		_ = term.Restore(stdin, before) // there is nothing else to be done about it
		fmt.Fprintln(s.a.stderr)
	}, nil
}

// hangUp is for a connection that nothing can be sent by. Reading fails too, and says
// why; if it does not, it is ended.
func (s *seat) hangUp(ctx context.Context) {
	late := time.NewTimer(time.Second)
	defer late.Stop()
	select {
	case <-ctx.Done():
	case <-late.C:
		_ = s.conn.CloseNow() // reading says what is wrong
	}
}

// typing sends keys until the person leaves, or until they cannot be sent. The read
// of a key cannot be ended: the end of the program does.
func (s *seat) typing(ctx context.Context, leave context.CancelCauseFunc) {
	var k keyboard
	buf := make([]byte, 1024)
	for ctx.Err() == nil {
		n, err := s.a.stdin.Read(buf)
		for _, stroke := range k.read(buf[:n]) {
			if len(stroke.keys) > 0 && s.write(ctx, websocket.MessageBinary, stroke.keys) != nil {
				s.hangUp(ctx)
				return
			}
			switch stroke.escape {
			case escapeLeave:
				err = errLeft
			case escapeBreak:
				if s.send(ctx, api.ConsoleMessage{Break: true}) != nil {
					s.hangUp(ctx)
					return
				}
			case escapeHelp:
				fmt.Fprint(s.a.stderr, strings.ReplaceAll(escapeHelpText, "\n", "\r\n"))
			case escapeNone:
			}
			if errors.Is(err, errLeft) {
				break
			}
		}
		if errors.Is(err, io.EOF) {
			err = errLeft
		}
		if err != nil {
			leave(err)
			return
		}
	}
}

// hear tells what happened to the console.
func (s *seat) hear(m api.ConsoleMessage) {
	switch {
	case m.Notice != "":
		s.say("%s", m.Notice)
	case m.Writers != nil && *m.Writers == "":
		s.say("nobody types")
	case m.Writers != nil:
		s.say("typing: %s", *m.Writers)
	}
}

// say writes a line of ours between the machine's.
func (s *seat) say(format string, args ...any) {
	end := "\n"
	if s.raw {
		end = "\r\n"
	}
	fmt.Fprint(s.a.stderr, end, "[", printable(fmt.Sprintf(format, args...)), "]", end)
}

func (s *seat) send(ctx context.Context, m api.ConsoleMessage) error {
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return s.write(ctx, websocket.MessageText, raw)
}

func (s *seat) write(ctx context.Context, kind websocket.MessageType, data []byte) error {
	ctx, cancel := context.WithTimeout(ctx, sayWithin)
	defer cancel()
	return s.conn.Write(ctx, kind, data)
}
