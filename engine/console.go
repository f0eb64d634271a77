package engine

import (
	"context"
	"strings"

	"github.com/rackstage/provision/fleet"
)

// How much of a machine's console is kept with its failure.
const (
	wordsLines = 24
	wordsWidth = 200
)

// lastWords is what a machine wrote before it failed.
func (e *Engine) lastWords(node fleet.NodeID) string {
	if e.Consoles == nil {
		return ""
	}
	lines := e.Consoles.LastLines(node, wordsLines)
	for i, l := range lines {
		if r := []rune(l); len(r) > wordsWidth {
			lines[i] = string(r[:wordsWidth]) + "…"
		}
	}
	return strings.Join(lines, "\n")
}

// ConsoleUsed keeps who did what on a node's console. What was typed there is
// nobody's business.
func (e *Engine) ConsoleUsed(ctx context.Context, actor string, node fleet.NodeID, what string) error {
	return e.update(ctx, func(t *tx) error {
		n, err := t.node(node)
		if err != nil {
			return err
		}
		t.event(fleet.EventConsole, n, actor, what)
		return nil
	})
}
