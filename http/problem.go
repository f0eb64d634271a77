package http

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

const problemType = "application/problem+json"

// A problem is an [api.Problem] that huma and echo know how to answer with.
type problem struct {
	*api.Problem
	cause error // for the log; nil when the caller is to blame
}

// GetStatus makes a problem a huma.StatusError.
func (p *problem) GetStatus() int { return p.Status }

// ContentType makes a problem a huma.ContentTypeFilter.
func (p *problem) ContentType(string) string { return problemType }

// Unwrap returns the cause.
func (p *problem) Unwrap() error { return p.cause }

// problemOf turns an error into what its caller gets to see: all of a
// [fleet.Error] that is his business, nothing of our own faults.
func problemOf(err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return newProblem(http.StatusServiceUnavailable, "E-TIMEOUT", "the server did not get it done in time", "try again")
	}
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return newProblem(http.StatusRequestEntityTooLarge, "E-BODY-LARGE", fmt.Sprintf("the body is larger than %d bytes", tooLarge.Limit), "")
	}
	kind := fleet.KindOf(err)
	if kind == fleet.Internal {
		p := newProblem(http.StatusInternalServerError, string(fleet.CodeOf(err)), "", "look for this request in the server's log")
		p.cause = err
		return p
	}
	p := newProblem(statusOf(kind), string(fleet.CodeOf(err)), err.Error(), fleet.HintOf(err))
	p.cause = err
	return p
}

func newProblem(status int, code, detail, hint string) *problem {
	return &problem{Problem: &api.Problem{Title: http.StatusText(status), Status: status, Code: code, Detail: detail, Hint: hint}}
}

// statusOf says which status code a kind of trouble gets.
func statusOf(kind fleet.Kind) int {
	switch kind {
	case fleet.Invalid:
		return http.StatusUnprocessableEntity
	case fleet.NotFound:
		return http.StatusNotFound
	case fleet.Conflict:
		return http.StatusConflict
	case fleet.Denied:
		return http.StatusForbidden
	case fleet.Unreachable:
		return http.StatusBadGateway
	default:
		return http.StatusInternalServerError
	}
}

// humaErrors turns what huma itself finds wrong with a request into our
// problems; it is a transformer because huma's own hook is a global.
func humaErrors(_ huma.Context, _ string, v any) (any, error) {
	model, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	p := newProblem(model.Status, "E-REQUEST", model.Detail, "see /api/v1/openapi.json for what is expected")
	for _, detail := range model.Errors {
		p.Detail += "; " + detail.Message
		if detail.Location != "" {
			p.Detail += " (" + detail.Location + ")"
		}
	}
	return p.Problem, nil
}

func writeProblem(w http.ResponseWriter, p *problem) {
	w.Header().Set("Content-Type", problemType)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p.Problem) // the caller went away: nothing to do
}
