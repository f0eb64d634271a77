package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
)

// ErrReset says that the server no longer has the events that followed the
// one asked for: read the state anew, then follow from now on.
var ErrReset = errors.New("events were missed")

// Events calls each for every event after since, as they happen, until each
// or the connection fails or ctx is done. A since of 0 starts now. It returns
// [ErrReset] when there is a gap, and io.EOF when the server ended the stream;
// after that the caller may go on from the last event it saw.
func (c *Client) Events(ctx context.Context, since int64, each func(Event) error) error {
	query := url.Values{}
	if since > 0 {
		query.Set("since", strconv.FormatInt(since, 10))
	}
	res, err := c.send(ctx, http.MethodGet, Root+"/events", query, nil, "text/event-stream")
	if err != nil {
		return err
	}
	defer res.Body.Close()
	err = readStream(res.Body, each)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// readStream reads server-sent events (HTML Living Standard §9.2), as far as
// our server uses them.
func readStream(r io.Reader, each func(Event) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	var kind string
	var data []byte
	for lines.Scan() {
		line := lines.Bytes()
		switch {
		case len(line) == 0:
			if err := dispatch(kind, data, each); err != nil {
				return err
			}
			kind, data = "", data[:0]
		case bytes.HasPrefix(line, []byte("event: ")):
			kind = string(line[len("event: "):])
		case bytes.HasPrefix(line, []byte("data: ")):
			data = append(data, line[len("data: "):]...)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	return io.EOF
}

func dispatch(kind string, data []byte, each func(Event) error) error {
	if kind == "reset" {
		return ErrReset
	}
	if len(data) == 0 {
		return nil // a heartbeat
	}
	var ev Event
	if err := json.Unmarshal(data, &ev); err != nil {
		return fmt.Errorf("read event: %w", err)
	}
	return each(ev)
}
