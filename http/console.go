package http

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/rackstage/provision/access"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/web"
)

const (
	rowsPerPage = 200
	feedLength  = 60
)

func (s *Server) consoleRoutes(e *echo.Echo) {
	e.GET("/login", s.loginPage)
	e.POST("/login", s.signIn)
	e.POST("/logout", s.signOut)
	e.GET("/assets/:file", s.asset)
	e.GET("/", s.console)
	e.GET("/live", s.live)
	e.GET("/nodes/:ref", s.nodePage)
	e.GET("/nodes/:ref/console", s.serialPage)
	e.GET("/boot", s.bootPage)
	e.POST("/approve", s.approveForm)
	e.POST("/rescue", s.rescueForm)
}

// shell is what every page has around it.
func (s *Server) shell(c echo.Context, title string) web.Shell {
	who := callerOf(c.Request().Context()).identity
	shell := web.Shell{Title: title, User: who.User, Role: string(who.Role), Demo: who.Demo, Now: s.o.Now().Unix()}
	if who.User != "" {
		shell.Alarm = s.alarmBar()
	}
	if who.Demo {
		shell.Role = string(access.Viewer)
	}
	if cookie, err := c.Cookie("theme"); err == nil && (cookie.Value == "dark" || cookie.Value == "light") {
		shell.Theme = cookie.Value
	}
	return shell
}

func (s *Server) page(c echo.Context, status int, name string, view any) error {
	html, err := s.pages.Render(name, view)
	if err != nil {
		return err
	}
	return c.HTMLBlob(status, compress(c.Request(), c.Response().Header(), html))
}

func (s *Server) loginPage(c echo.Context) error {
	return s.page(c, http.StatusOK, "login", web.Login{
		Shell: s.shell(c, "Sign in"), Next: localPath(c.QueryParam("next")), DemoTip: s.o.DemoLogin,
	})
}

// signIn starts a session, always a new one.
func (s *Server) signIn(c echo.Context) error {
	req := c.Request()
	user, next := c.FormValue("user"), localPath(c.FormValue("next"))
	token, expires, err := s.o.Accounts.SignIn(req.Context(), user, c.FormValue("password"), remoteAddr(req))
	if err != nil {
		p := s.report(req.Context(), err)
		s.o.Log.WarnContext(req.Context(), "sign-in refused", "user", fleet.CleanText(user), "addr", remoteAddr(req), "code", p.Code)
		if p.Status == http.StatusInternalServerError {
			return p
		}
		status := http.StatusUnauthorized
		if p.Code == "E-LOGIN-LIMIT" {
			status = http.StatusTooManyRequests
		}
		return s.page(c, status, "login", web.Login{
			Shell: s.shell(c, "Sign in"), Name: fleet.CleanText(user), Next: next, Error: reason(err), Hint: p.Hint, DemoTip: s.o.DemoLogin,
		})
	}
	s.setCookie(c, token, expires)
	return c.Redirect(http.StatusSeeOther, next)
}

// reason is the innermost word of an error, without what was tried.
func reason(err error) string {
	if e, ok := errors.AsType[*fleet.Error](err); ok && e.Err != nil {
		return e.Err.Error()
	}
	return err.Error()
}

func (s *Server) signOut(c echo.Context) error {
	if token, fromCookie := tokenOf(c.Request()); fromCookie {
		if err := s.o.Accounts.SignOut(c.Request().Context(), token); err != nil {
			return err
		}
	}
	s.setCookie(c, "", time.Unix(1, 0))
	return c.Redirect(http.StatusSeeOther, "/login")
}

func (s *Server) setCookie(c echo.Context, token string, expires time.Time) {
	c.SetCookie(&http.Cookie{
		Name: cookieName(c.Request()), Value: token, Path: "/", Expires: expires,
		HttpOnly: true, Secure: c.Request().TLS != nil, SameSite: http.SameSiteStrictMode,
	})
}

// localPath lets a browser be sent to a page of ours, nowhere else.
func localPath(target string) string {
	u, err := url.Parse(target)
	if err != nil || u.Host != "" || u.Scheme != "" || u.User != nil || !strings.HasPrefix(target, "/") ||
		strings.HasPrefix(target, "//") || strings.ContainsAny(target, "\\\r\n\t") {
		return "/"
	}
	return target
}

// asset serves style sheet, script and icon. Their address changes with
// their content.
func (s *Server) asset(c echo.Context) error {
	a, ok := s.pages.Asset(c.Param("file"))
	if !ok {
		return newProblem(http.StatusNotFound, "E-PATH", "no such file", "")
	}
	h := c.Response().Header()
	h.Set("ETag", `"`+a.Tag+`"`)
	h.Set("Cache-Control", "no-cache")
	if c.QueryParam("v") == a.Tag {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	if c.Request().Header.Get("If-None-Match") == `"`+a.Tag+`"` {
		return c.NoContent(http.StatusNotModified)
	}
	return c.Blob(http.StatusOK, a.Type, compress(c.Request(), h, a.Data))
}

// console is the one page.
func (s *Server) console(c echo.Context) error {
	v := s.viewer(c)
	view := web.Console{Shell: s.shell(c, "Nodes"), Query: v.query, Legend: legend()}
	f, err := v.filter()
	if err != nil {
		view.Problem, view.Hint = reason(err), fleet.HintOf(err)
	}
	all := s.o.Engine.Nodes()
	scene := s.scene()
	found := slices.DeleteFunc(slices.Clone(all), func(n fleet.Node) bool { return !f.holds(n) })
	slices.SortFunc(found, byUrgency)
	view.Counts, view.Tabs = v.counts(all, len(found)), v.tabs(all, scene.site)
	from := min(v.page*rowsPerPage, len(found))
	to := min(from+rowsPerPage, len(found))
	for _, n := range found[from:to] {
		view.Rows = append(view.Rows, v.row(n, scene))
	}
	view.Pages = v.paging(from, to, len(found))
	view.Runs = scene.runViews()
	if n, err := s.o.Engine.Node(v.node); err == nil && v.node != "" {
		panel := v.panel(n, scene)
		view.Panel = &panel
	}
	view.Feed, err = s.feed(c.Request().Context(), v, all)
	if err != nil {
		return err
	}
	return s.page(c, http.StatusOK, "console", view)
}

// nodePage is the part of the console about one node, for its script; for
// everybody else the console with that node open.
func (s *Server) nodePage(c echo.Context) error {
	n, err := s.o.Engine.Node(c.Param("ref"))
	if err != nil {
		return err
	}
	if c.QueryParam("part") != "panel" {
		return c.Redirect(http.StatusSeeOther, "/?node="+url.QueryEscape(string(n.ID)))
	}
	return s.page(c, http.StatusOK, "panel", s.viewer(c).panel(n, s.scene()))
}

// approveForm lets a machine in, from a form of the console.
func (s *Server) approveForm(c echo.Context) error {
	ctx := c.Request().Context()
	if _, err := s.o.Engine.Approve(ctx, actorOf(ctx), c.FormValue("ref")); err != nil {
		return err
	}
	return formDone(c)
}

// formDone answers a form whose work is done: with the page that it stood on,
// for a browser without our script.
func formDone(c echo.Context) error {
	if !wantsPage(c.Request()) {
		return c.NoContent(http.StatusNoContent)
	}
	back, err := url.ParseQuery(c.FormValue("back"))
	if err != nil {
		back = nil
	}
	return c.Redirect(http.StatusSeeOther, "/?"+back.Encode())
}

// failPage shows an error to a person.
func (s *Server) failPage(c echo.Context, p *problem) error {
	return s.page(c, p.Status, "fault", web.Fault{
		Shell: s.shell(c, p.Title), Status: p.Status, Text: p.Title, Detail: p.Detail, Code: p.Code, Hint: p.Hint,
	})
}

// feed is the newest events, newest first.
func (s *Server) feed(ctx context.Context, v viewer, all []fleet.Node) ([]web.Event, error) {
	// Not the progress of nodes: that is not stored.
	events, err := s.o.Engine.Events(ctx, max(0, s.o.Engine.LastEvent()-feedLength), feedLength)
	if err != nil {
		return nil, err
	}
	titles := titlesOf(all)
	var out []web.Event
	for _, ev := range slices.Backward(events) {
		out = append(out, v.event(ev, titles[ev.Node]))
	}
	return out, nil
}

func titlesOf(nodes []fleet.Node) map[fleet.NodeID]string {
	titles := make(map[fleet.NodeID]string, len(nodes))
	for _, n := range nodes {
		titles[n.ID] = n.Title()
	}
	return titles
}

// A viewer is a person looking at the console, and what he looks at.
type viewer struct {
	query  string
	node   string // that is open beside the table
	page   int
	denied string // why buttons that change something cannot be pressed
}

func (s *Server) viewer(c echo.Context) viewer {
	v := viewer{query: strings.TrimSpace(c.QueryParam("q")), node: c.QueryParam("node")}
	v.page, _ = strconv.Atoi(c.QueryParam("page"))
	v.page = min(max(v.page, 0), 1<<20)
	if who := callerOf(c.Request().Context()).identity; !who.May(access.Operator) {
		v.denied = "needs role " + string(access.Operator)
	}
	return v
}

// filter is what he searches for. A search that cannot be read finds nothing.
func (v viewer) filter() (filter, error) {
	f, err := parseFilter(v.query)
	if err != nil {
		return filter{{text: "\x00"}}, err
	}
	return f, nil
}

// href is the address of the console with another query, node or page.
func (v viewer) href() string {
	q := url.Values{}
	if v.query != "" {
		q.Set("q", v.query)
	}
	if v.node != "" {
		q.Set("node", v.node)
	}
	if v.page > 0 {
		q.Set("page", strconv.Itoa(v.page))
	}
	if len(q) == 0 {
		return "/"
	}
	return "/?" + q.Encode()
}

func (v viewer) with(query string) string {
	v.query, v.page = query, 0
	return v.href()
}

func (v viewer) open(node string) string {
	v.node = node
	return v.href()
}

func (v viewer) paging(from, to, total int) web.Paging {
	p := web.Paging{From: from + 1, To: to}
	if to < total {
		next := v
		next.page++
		p.Next = next.href()
	}
	if v.page > 0 {
		prev := v
		prev.page--
		p.Prev = prev.href()
	}
	return p
}
