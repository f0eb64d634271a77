package http

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humaecho"

	"github.com/rackstage/provision/fleet"
)

const (
	heartbeat   = 15 * time.Second
	streamStall = 30 * time.Second // for a reader to take what was written
	replayPage  = 500
	replayMost  = 10_000 // events; who missed more reads everything anew
)

type followEvents struct {
	Since  int64 `query:"since" minimum:"0" doc:"events after this one first; 0: from now on"`
	LastID int64 `header:"Last-Event-ID" minimum:"0" doc:"as since; what browsers send when they reconnect"`
}

// followEvents streams events as they happen. A reader that comes back says
// what it saw last and gets what followed, or "reset" when that is gone.
func (s *Server) followEvents(ctx context.Context, in *followEvents) (*huma.StreamResponse, error) {
	since := max(in.Since, in.LastID)
	return &huma.StreamResponse{Body: func(c huma.Context) {
		e := humaecho.Unwrap(c)
		out, err := s.openStream(e.Response().Writer)
		if err != nil {
			writeProblem(e.Response(), s.report(ctx, err))
			return
		}
		defer out.close()
		s.stream(ctx, out, since)
	}}, nil
}

func (s *Server) stream(ctx context.Context, out *stream, since int64) {
	live, stop := s.o.Engine.Subscribe() // first, so that nothing falls between
	defer stop()
	last, err := s.replay(ctx, out, since)
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for err == nil {
		select {
		case <-ctx.Done():
			return
		case <-s.closing:
			return
		case <-beat.C:
			err = out.comment()
		case ev, ok := <-live:
			if !ok {
				return // too slow: it comes back and asks for what it missed
			}
			if ev.Seq != 0 && ev.Seq <= last {
				continue // replayed already
			}
			last = max(last, ev.Seq)
			err = out.event(ev)
		}
	}
}

// replay sends what followed since, and returns the last event that it sent.
func (s *Server) replay(ctx context.Context, out *stream, since int64) (last int64, err error) {
	if since == 0 {
		return 0, nil
	}
	first, err := s.o.Engine.Events(ctx, since-1, 1)
	if err != nil {
		return 0, err
	}
	if len(first) == 0 || first[0].Seq != since {
		return 0, out.send("reset", "", []byte("{}")) // we do not have it, or not any more
	}
	last = since
	for sent := 0; sent < replayMost; {
		page, err := s.o.Engine.Events(ctx, last, replayPage)
		if err != nil {
			return last, err
		}
		for _, ev := range page {
			if err := out.event(ev); err != nil {
				return last, err
			}
			last = ev.Seq
		}
		if sent += len(page); len(page) < replayPage {
			return last, nil
		}
	}
	return last, out.send("reset", "", []byte("{}"))
}

// A stream writes server-sent events, each flushed and under a deadline.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	done    func()
}

// openStream begins a stream, unless there are too many.
func (s *Server) openStream(w http.ResponseWriter) (*stream, error) {
	select {
	case s.streams <- struct{}{}:
	default:
		return nil, newProblem(http.StatusServiceUnavailable, "E-STREAMS", "too many event streams are open", "close some consoles, or try again later")
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	out := &stream{w: w, control: http.NewResponseController(w), done: func() { <-s.streams }}
	w.WriteHeader(http.StatusOK)
	return out, out.write([]byte("retry: 2000\n\n"))
}

func (o *stream) close() { o.done() }

// event sends an event as JSON. Those that are not stored have no id.
func (o *stream) event(ev fleet.Event) error {
	raw, err := json.Marshal(fromEvent(ev))
	if err != nil {
		return fmt.Errorf("write event: %w", err)
	}
	id := ""
	if ev.Seq != 0 {
		id = strconv.FormatInt(ev.Seq, 10)
	}
	return o.send("", id, raw)
}

// send writes one event. The data's line breaks become data lines, so that
// nothing in it can end the event or begin another.
func (o *stream) send(kind, id string, data []byte) error {
	return o.write(frame(kind, id, data))
}

func frame(kind, id string, data []byte) []byte {
	out := make([]byte, 0, len(data)+len(data)/32+64)
	if kind != "" {
		out = append(append(append(out, "event: "...), kind...), '\n')
	}
	if id != "" {
		out = append(append(append(out, "id: "...), id...), '\n')
	}
	out = append(out, "data: "...)
	for _, b := range data {
		switch b {
		case '\n':
			out = append(out, "\ndata: "...)
		case '\r': // would end the line as well
		default:
			out = append(out, b)
		}
	}
	return append(out, "\n\n"...)
}

// comment is a heartbeat: it keeps proxies and firewalls from forgetting us.
func (o *stream) comment() error { return o.write([]byte(": \n\n")) }

func (o *stream) write(raw []byte) error {
	_ = o.control.SetWriteDeadline(time.Now().Add(streamStall))
	if _, err := o.w.Write(raw); err != nil {
		return err
	}
	return o.control.Flush()
}
