package http

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/rackstage/provision/api"
)

// Limits of what callers may send.
const (
	maxBody      = 1 << 20
	maxHelloBody = 16 << 20 // an inventory, or what Docker has answered
	maxDepth     = 25       // of nested JSON
	maxBigBodies = 8        // bodies over maxBody that are read at the same time

	bodyTime  = 15 * time.Second // for a body to arrive
	replyTime = 2 * time.Minute  // for a whole request, long polls included; streams set their own
)

// intake reads the body of a request whole, bounded in size, time and depth,
// and hands it on from memory.
func (s *Server) intake(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		req := c.Request()
		if c.Path() == api.PathRelayTunnel {
			return next(c) // what comes is for the connection inside
		}
		// Errors of deadlines mean that the connection has none, as in tests.
		control := http.NewResponseController(c.Response().Writer)
		_ = control.SetWriteDeadline(time.Now().Add(replyTime))
		if req.Body == nil || req.Body == http.NoBody {
			return next(c)
		}
		_ = control.SetReadDeadline(time.Now().Add(bodyTime))
		raw, err := s.readBody(c)
		if err != nil {
			return err
		}
		_ = control.SetReadDeadline(time.Time{})
		if !isForm(req) {
			if err := checkDepth(raw, maxDepth); err != nil {
				return err
			}
		}
		req.Body = io.NopCloser(bytes.NewReader(raw))
		return next(c)
	}
}

func (s *Server) readBody(c echo.Context) ([]byte, error) {
	req := c.Request()
	limit := int64(maxBody)
	if c.Path() == api.PathHello || c.Path() == api.PathPoll {
		limit = maxHelloBody
	}
	if req.ContentLength > maxBody || req.ContentLength < 0 {
		select {
		case s.bigBodies <- struct{}{}:
			defer func() { <-s.bigBodies }()
		case <-req.Context().Done():
			return nil, req.Context().Err()
		}
	}
	raw, err := io.ReadAll(http.MaxBytesReader(c.Response().Writer, req.Body, limit))
	if err != nil {
		p := problemOf(err)
		if p.Status == http.StatusInternalServerError {
			p = newProblem(http.StatusBadRequest, "E-BODY", "the body did not arrive", "")
		}
		return nil, p
	}
	return raw, nil
}

func isForm(req *http.Request) bool {
	return strings.HasPrefix(req.Header.Get("Content-Type"), "application/x-www-form-urlencoded")
}

// checkDepth refuses JSON that is nested deeper than limit, before anything
// that recurses gets to see it.
func checkDepth(raw []byte, limit int) error {
	depth, quoted, escaped := 0, false, false
	for _, b := range raw {
		switch {
		case escaped:
			escaped = false
		case quoted:
			escaped = b == '\\'
			quoted = b != '"'
		case b == '"':
			quoted = true
		case b == '{' || b == '[':
			if depth++; depth > limit {
				return newProblem(http.StatusBadRequest, "E-BODY-DEPTH", fmt.Sprintf("the body is nested deeper than %d levels", limit), "")
			}
		case b == '}' || b == ']':
			depth--
		}
	}
	return nil
}
