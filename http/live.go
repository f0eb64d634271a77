package http

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/web"
)

// pace is how often a console is brought up to date, however much happens.
const pace = time.Second

// glance is how often a console is drawn when nothing happens.
const glance = 10 * time.Second

// live streams what changes in the console, as pieces of its HTML.
func (s *Server) live(c echo.Context) error {
	v := s.viewer(c)
	f, _ := v.filter()
	since, _ := strconv.ParseInt(c.QueryParam("since"), 10, 64)
	if last, err := strconv.ParseInt(c.Request().Header.Get("Last-Event-ID"), 10, 64); err == nil {
		since = max(since, last)
	}
	events, stop := s.o.Engine.Subscribe()
	defer stop()
	out, err := s.openStream(c.Response().Writer)
	if err != nil {
		return err
	}
	defer out.close()
	w := &watch{s: s, v: v, f: f, out: out, rows: map[fleet.NodeID]string{}, last: since}
	w.run(c.Request().Context(), events)
	return nil
}

// A watch is one console that is being kept up to date.
type watch struct {
	s    *Server
	v    viewer
	f    filter
	out  *stream
	last int64 // event that was shown

	rows  map[fleet.NodeID]string // versions of the rows that it shows
	parts map[string]string       // what else it shows
}

func (w *watch) run(ctx context.Context, events <-chan fleet.Event) {
	w.parts = map[string]string{}
	beat, look := time.NewTicker(heartbeat), time.NewTicker(glance)
	defer beat.Stop()
	defer look.Stop()
	err := w.missed(ctx)
	for err == nil {
		changed := w.s.o.Engine.Changed()
		if err = w.update(); err != nil {
			return
		}
		for waiting := true; waiting && err == nil; {
			select {
			case <-ctx.Done():
				return
			case <-w.s.closing:
				return
			case <-beat.C:
				err = w.out.comment()
			case <-changed:
				waiting = false
			case <-look.C:
				waiting = false // time alone makes a node late
			case ev, ok := <-events:
				if !ok {
					return // too slow: it comes back
				}
				err = w.hear(ev)
				waiting = ev.Type != fleet.EventProgress && err == nil
			}
		}
		if err == nil {
			err = w.gather(ctx, events)
		}
	}
}

// gather lets changes come together for a moment, and passes events on.
func (w *watch) gather(ctx context.Context, events <-chan fleet.Event) error {
	timer := time.NewTimer(pace)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return nil
		case ev, ok := <-events:
			if !ok {
				return context.Canceled
			}
			if err := w.hear(ev); err != nil {
				return err
			}
		}
	}
}

// missed sends the events between the page and the stream.
func (w *watch) missed(ctx context.Context) error {
	newest := w.s.o.Engine.LastEvent()
	if w.last == 0 || w.last > newest {
		w.last = newest
		return nil
	}
	events, err := w.s.o.Engine.Events(ctx, max(w.last, newest-feedLength), feedLength)
	if err != nil {
		return err
	}
	for _, ev := range events {
		if err := w.hear(ev); err != nil {
			return err
		}
	}
	return nil
}

// hear shows an event in the feed. Progress is for the rows.
func (w *watch) hear(ev fleet.Event) error {
	if ev.Seq == 0 || ev.Seq <= w.last {
		return nil
	}
	w.last = ev.Seq
	title := ""
	if n, err := w.s.o.Engine.Node(string(ev.Node)); err == nil {
		title = n.Title()
	}
	html, err := w.s.pages.Render("event", w.v.event(ev, title))
	if err != nil {
		return err
	}
	return w.out.send("feed", strconv.FormatInt(ev.Seq, 10), html)
}

// update sends what differs from what the console shows.
func (w *watch) update() error {
	all, sc := w.s.o.Engine.Nodes(), w.s.scene()
	found := slices.DeleteFunc(slices.Clone(all), func(n fleet.Node) bool { return !w.f.holds(n) })
	if err := w.sendRows(found, sc); err != nil {
		return err
	}
	if err := w.send("counts", w.v.counts(all, len(found)), ""); err != nil {
		return err
	}
	bar := w.s.alarmBar()
	if err := w.send("alarms", bar, alarmKey(bar)); err != nil { // also when there are none: the page may show one
		return err
	}
	runs := sc.runViews()
	return w.send("runs", runs, runsKey(runs))
}

// sendRows sends the rows of the page that changed. Rows of other pages are
// on them when they are opened.
func (w *watch) sendRows(found []fleet.Node, sc scene) error {
	slices.SortFunc(found, byUrgency)
	from := min(w.v.page*rowsPerPage, len(found))
	shown := map[fleet.NodeID]bool{}
	for _, n := range found[from:min(from+rowsPerPage, len(found))] {
		shown[n.ID] = true
		row := w.v.row(n, sc)
		if w.rows[n.ID] == row.Version {
			continue
		}
		html, err := w.s.pages.Render("row", row)
		if err != nil {
			return err
		}
		if err := w.out.send("row", "", html); err != nil {
			return err
		}
		w.rows[n.ID] = row.Version
	}
	for id := range w.rows {
		if shown[id] {
			continue
		}
		delete(w.rows, id)
		if err := w.out.send("gone", "", []byte(id)); err != nil {
			return err
		}
	}
	return nil
}

// send sends a part of the page when it differs from the last one. A key
// stands for the part where it holds clocks that the script keeps going.
func (w *watch) send(part string, view any, key string) error {
	html, err := w.s.pages.Render(part, view)
	if err != nil {
		return err
	}
	if key == "" {
		key = string(html)
	}
	if w.parts[part] == key {
		return nil
	}
	w.parts[part] = key
	return w.out.send(part, "", html)
}

func alarmKey(bar *web.AlarmBar) string {
	if bar == nil {
		return "no alarms"
	}
	return fmt.Sprintf("%+v", *bar)
}

func runsKey(runs []web.Run) string {
	var key strings.Builder
	for _, r := range runs {
		if r.Live {
			r.Elapsed = ""
		}
		fmt.Fprint(&key, r.ID, r.State, r.Elapsed, r.ETA, r.Done, r.Failed, r.Working, r.Held, r.Total, "|")
	}
	return "runs" + key.String()
}
