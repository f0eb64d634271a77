package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"time"
)

// consoleMark begins the lines that are ours, not the machine's.
const consoleMark = "=== lab:"

const consoleEvery = 100 * time.Millisecond

// Console returns the path of the file in which everything stands that the
// machine has written to its serial port.
func (r *Rack) Console(name string) (string, error) {
	b, err := r.bay(name)
	if err != nil {
		return "", err
	}
	return b.path(consoleFile), nil
}

// WaitConsole waits until the machine has written something that matches since
// it was last switched on or reset, and returns the match. The error shows how
// far the machine came.
func (r *Rack) WaitConsole(ctx context.Context, name string, re *regexp.Regexp) (string, error) {
	b, err := r.bay(name)
	if err != nil {
		return "", err
	}
	for {
		text, err := b.consoleText()
		if err != nil {
			return "", err
		}
		if m := re.Find(text); m != nil {
			return string(m), nil
		}
		if ctx.Err() != nil {
			return "", fmt.Errorf("machine %s never wrote %q: %w; its last words: %q", name, re, ctx.Err(), tail(text, 400))
		}
		pause(ctx, consoleEvery)
	}
}

// consoleText returns what was written since the machine's present life began.
func (b *bay) consoleText() ([]byte, error) {
	text, err := os.ReadFile(b.path(consoleFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read console of %s: %w", b.Machine.Name, err)
	}
	return sinceMark(text), nil
}

// sinceMark cuts off everything up to the last line of ours.
func sinceMark(text []byte) []byte {
	i := bytes.LastIndex(text, []byte("\n"+consoleMark))
	if i < 0 {
		return text
	}
	_, rest, _ := bytes.Cut(text[i+1:], []byte("\n"))
	return rest
}

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }
