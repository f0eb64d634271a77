package http

import (
	"context"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/console"
)

type consoleLog struct {
	Ref    string    `path:"ref" maxLength:"128" doc:"id, name or MAC"`
	Record string    `query:"record" maxLength:"64" doc:"one record only"`
	Since  time.Time `query:"since" doc:"lines from this time on"`
	Match  string    `query:"match" maxLength:"200" doc:"regular expression (RE2)"`
	Limit  int       `query:"limit" minimum:"1" maximum:"10000" default:"1000" doc:"the newest so many"`
}

// consoleRecords lists what was recorded of a node's console.
func (s *Server) consoleRecords(_ context.Context, in *nodeRef) (*reply[api.ConsoleRecords], error) {
	n, err := s.consoleOf(in.Ref)
	if err != nil {
		return nil, err
	}
	list := api.ConsoleRecords{Records: []api.ConsoleRecord{}}
	for _, r := range s.o.Consoles.Archive().Records(n.ID) {
		list.Records = append(list.Records, api.ConsoleRecord(r))
	}
	return &reply[api.ConsoleRecords]{Body: list}, nil
}

// searchConsole returns lines of what was recorded.
func (s *Server) searchConsole(ctx context.Context, in *consoleLog) (*reply[api.ConsoleLog], error) {
	n, err := s.consoleOf(in.Ref)
	if err != nil {
		return nil, err
	}
	lines, more, err := s.o.Consoles.Archive().Search(ctx, n.ID, console.Search{Record: in.Record, Since: in.Since, Match: in.Match, Limit: in.Limit})
	if err != nil {
		return nil, err
	}
	log := api.ConsoleLog{Lines: []api.ConsoleLine{}, More: more}
	for _, l := range lines {
		log.Lines = append(log.Lines, api.ConsoleLine(l))
	}
	return &reply[api.ConsoleLog]{Body: log}, nil
}

// rawConsole sends a record as the machine wrote it. It is a file to be stored,
// and nothing that a browser would show.
func (s *Server) rawConsole(c echo.Context) error {
	n, err := s.consoleOf(c.Param("ref"))
	if err != nil {
		return err
	}
	id := c.Param("record")
	for _, r := range s.o.Consoles.Archive().Records(n.ID) {
		if r.ID != id {
			continue
		}
		h := c.Response().Header()
		h.Set("Content-Type", "application/octet-stream")
		h.Set("Content-Disposition", `attachment; filename="console-`+string(n.ID)+"-"+r.ID+`.log"`)
		return s.o.Consoles.Archive().Raw(c.Request().Context(), c.Response(), n.ID, id)
	}
	return newProblem(http.StatusNotFound, "E-CONSOLE-RECORD", "there is no such record", "list them: provision console NODE --log")
}
