package http

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/console"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/web"
)

// linesPerPage is how much of a console one page shows.
const linesPerPage = 1000

// serialPage shows the serial console of a node: live, and what was recorded.
func (s *Server) serialPage(c echo.Context) error {
	n, err := s.consoleOf(c.Param("ref"))
	if err != nil {
		return err
	}
	id := url.PathEscape(string(n.ID))
	view := web.Serial{
		Shell: s.shell(c, "Console of "+n.Title()), Node: n.Title(), Path: "/nodes/" + id + "/console", Back: "/?node=" + url.QueryEscape(string(n.ID)),
		Socket: api.ConsolePath(string(n.ID)), Nonce: rand.Text(), CLI: "provision console " + n.Title(),
		Match: c.QueryParam("match"), Record: c.QueryParam("record"),
	}
	if n.BMC.Address == "" {
		view.Dead = "It has no BMC that we can sign in to, and so no live console."
	}
	archive := s.o.Consoles.Archive()
	view.Records = serialRecords(view, archive.Records(n.ID))
	lines, more, err := archive.Search(c.Request().Context(), n.ID, console.Search{Record: view.Record, Match: view.Match, Limit: linesPerPage})
	switch fleet.KindOf(err) {
	case fleet.Invalid, fleet.NotFound:
		view.Problem, view.Hint = reason(err), fleet.HintOf(err)
	default:
		if err != nil {
			return err
		}
	}
	view.More = more
	for _, l := range lines {
		view.Lines = append(view.Lines, web.SerialLine{At: l.At, Text: l.Text})
	}
	allowStyles(c.Response().Header(), view.Nonce)
	return s.page(c, http.StatusOK, "serial", view)
}

// allowStyles lets this one page have style elements with a nonce: the terminal
// draws with them.
func allowStyles(h http.Header, nonce string) {
	const header = "Content-Security-Policy"
	h.Set(header, strings.Replace(h.Get(header), "style-src 'self'", "style-src 'self' 'nonce-"+nonce+"'", 1))
}

func serialRecords(view web.Serial, records []console.Record) []web.SerialRecord {
	var out []web.SerialRecord
	for _, r := range records {
		q := url.Values{"record": {r.ID}}
		if view.Match != "" {
			q.Set("match", view.Match)
		}
		row := web.SerialRecord{
			ID: r.ID, Began: stamp(r.Began), Lasted: "goes on", Why: r.Why, Size: web.Bytes(r.Bytes), Current: r.ID == view.Record,
			Href: view.Path + "?" + q.Encode() + "#recorded", Raw: view.Socket + "/records/" + url.PathEscape(r.ID),
		}
		if !r.Ended.IsZero() {
			row.Lasted = web.Duration(r.Ended.Sub(r.Began))
		}
		out = append(out, row)
	}
	return out
}
