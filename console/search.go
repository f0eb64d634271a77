package console

import (
	"context"
	"errors"
	"io"
	"regexp"
	"time"

	"github.com/rackstage/provision/fleet"
)

// A Line is one that a machine wrote: hostile text without control characters.
type Line struct {
	At     time.Time
	Record string
	Text   string
}

// A Search says which lines are wanted.
type Search struct {
	Record string // one record; "": all
	Since  time.Time
	Match  string // regular expression (RE2); "": all
	Limit  int    // the newest so many; 0: 10,000
}

const (
	maxMatch = 200
	maxFound = 10_000
)

// Search returns lines of a node's records, oldest first, and whether there were
// more of them.
func (a *Archive) Search(ctx context.Context, node fleet.NodeID, s Search) (lines []Line, more bool, err error) {
	match, err := s.compile()
	if err != nil {
		return nil, false, err
	}
	if s.Limit <= 0 || s.Limit > maxFound {
		s.Limit = maxFound
	}
	var found [][]Line
	n := 0
	for _, rec := range a.Records(node) { // newest first
		if s.Record != "" && rec.ID != s.Record {
			continue
		}
		if !rec.Ended.IsZero() && rec.Ended.Before(s.Since) || n > s.Limit {
			break
		}
		part, err := a.grep(ctx, node, rec.ID, s, match)
		if err != nil {
			return nil, false, err
		}
		found = append(found, part)
		n += len(part)
	}
	if s.Record != "" && found == nil {
		_, _, err := a.open(node, s.Record) // which says that there is none
		return nil, false, err
	}
	for i := range found {
		lines = append(lines, found[len(found)-1-i]...)
	}
	if over := len(lines) - s.Limit; over > 0 {
		return lines[over:], true, nil
	}
	return lines, false, nil
}

func (s Search) compile() (*regexp.Regexp, error) {
	match, err := regexp.Compile(s.Match)
	if err == nil && len(s.Match) > maxMatch {
		err = errors.New("it is too long")
	}
	if err != nil {
		return nil, &fleet.Error{
			Kind: fleet.Invalid, Code: "E-CONSOLE-SEARCH", Op: "search console", On: fleet.CleanText(s.Match), Err: err,
			Hint: `write a regular expression, such as "panic|error", with \ before characters that are meant as they are`,
		}
	}
	return match, nil
}

// grep returns the last lines of a record that match.
func (a *Archive) grep(ctx context.Context, node fleet.NodeID, id string, s Search, match *regexp.Regexp) ([]Line, error) {
	r, file, err := a.open(node, id)
	if fleet.KindOf(err) == fleet.NotFound && s.Record == "" {
		return nil, nil // its time came meanwhile
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var p plainText
	var lines []Line
	keep := func(at time.Time, text string) {
		if text == "" || at.Before(s.Since) || !match.MatchString(text) {
			return
		}
		lines = append(lines, Line{at, id, text})
		if len(lines) > 2*s.Limit {
			lines = append(lines[:0], lines[len(lines)-s.Limit-1:]...)
		}
	}
	for {
		at, piece, err := r.next()
		if errors.Is(err, io.EOF) {
			keep(at, p.rest())
			return lines, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		for _, text := range p.feed(piece) {
			keep(at, text)
		}
	}
}

// Raw writes a record as the machine wrote it, for a terminal.
func (a *Archive) Raw(ctx context.Context, w io.Writer, node fleet.NodeID, id string) error {
	r, file, err := a.open(node, id)
	if err != nil {
		return err
	}
	defer file.Close()
	for ctx.Err() == nil {
		_, piece, err := r.next()
		if err != nil {
			return nil // the end
		}
		if _, err := w.Write(piece); err != nil {
			return err
		}
	}
	return ctx.Err()
}
