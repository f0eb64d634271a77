package api

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// ConsoleRecord is what a machine wrote to its serial console from one start to
// the next.
type ConsoleRecord struct {
	ID    string    `json:"id"`
	Began time.Time `json:"began"`
	Ended time.Time `json:"ended,omitzero"` // missing while it goes on
	Why   string    `json:"why"`            // it began: "power", "network boot", …
	Bytes int64     `json:"bytes"`
}

// ConsoleRecords are those of a node, newest first.
type ConsoleRecords struct {
	Records []ConsoleRecord `json:"records"`
}

// ConsoleLine is one line that a machine wrote: hostile text without control
// characters.
type ConsoleLine struct {
	At     time.Time `json:"at"`
	Record string    `json:"record"`
	Text   string    `json:"text"`
}

// ConsoleLog is a part of what a machine wrote, oldest first.
type ConsoleLog struct {
	Lines []ConsoleLine `json:"lines"`
	More  bool          `json:"more"` // there are older ones that match
}

// ConsoleQuery picks lines.
type ConsoleQuery struct {
	Record string    // one record; "": all
	Since  time.Time // zero: from the beginning
	Match  string    // regular expression (RE2)
	Limit  int       // the newest so many; 0: the server's default
}

// ConsoleMessage is what the two ends of a console's WebSocket tell each other
// in text messages. Binary messages are characters.
//
// The server sends Ready first, then what the machine wrote last. Who wants to
// type says Keyboard.
type ConsoleMessage struct {
	Ready    bool     `json:"ready,omitempty"`
	Notice   string   `json:"notice,omitempty"`   // what happened to the console
	Writers  *string  `json:"writers,omitempty"`  // who has a keyboard now; "" for nobody
	Error    *Problem `json:"error,omitempty"`    // the end, and why
	Keyboard *bool    `json:"keyboard,omitempty"` // to the server: take it, or let go
	Break    bool     `json:"break,omitempty"`    // to the server: hold the line
}

// ConsoleProtocol is the WebSocket subprotocol of consoles.
const ConsoleProtocol = "console.v1.provision"

// ConsolePath is where the console of a node is opened.
func ConsolePath(ref string) string { return Root + "/nodes/" + url.PathEscape(ref) + "/console" }

// ConsoleRecords lists what was recorded of a node's console.
func (c *Client) ConsoleRecords(ctx context.Context, ref string) ([]ConsoleRecord, error) {
	var list ConsoleRecords
	err := c.call(ctx, http.MethodGet, ConsolePath(ref)+"/records", nil, nil, &list)
	return list.Records, err
}

// ConsoleLog returns lines of what was recorded of a node's console.
func (c *Client) ConsoleLog(ctx context.Context, ref string, q ConsoleQuery) (log ConsoleLog, err error) {
	values := url.Values{}
	setIf(values, "record", q.Record)
	setIf(values, "match", q.Match)
	if !q.Since.IsZero() {
		values.Set("since", q.Since.UTC().Format(time.RFC3339Nano))
	}
	if q.Limit > 0 {
		values.Set("limit", strconv.Itoa(q.Limit))
	}
	return log, c.call(ctx, http.MethodGet, ConsolePath(ref)+"/log", values, nil, &log)
}

// RawConsole writes a record as the machine wrote it, for a terminal.
func (c *Client) RawConsole(ctx context.Context, ref, record string, w io.Writer) error {
	res, err := c.send(ctx, http.MethodGet, ConsolePath(ref)+"/records/"+url.PathEscape(record), nil, nil, "application/octet-stream")
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, err = io.Copy(w, res.Body)
	return err
}

// Socket is what a WebSocket library needs to connect to the server: the address
// of a path, a client that gets there, and who we are.
func (c *Client) Socket(path string) (address string, client *http.Client, header http.Header) {
	header = http.Header{}
	if c.token != "" {
		header.Set("Authorization", "Bearer "+c.token)
	}
	return c.base + path, c.http, header
}
