package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/bmc/bmctest"
)

const (
	serialText = "Debian GNU/Linux 12 prd-1 ttyS1\r\n\r\nprd-1 login: "
	typedWord  = "Typed6Typed6Type"
)

// sit is a person before the console of a node: who sees what its machine writes,
// and types a password there.
func (l *life) sit(t *testing.T, node string, port *bmctest.Line) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	address, client, header := l.client.Socket(api.ConsolePath(node))
	conn, _, err := websocket.Dial(ctx, address, &websocket.DialOptions{
		HTTPClient: client, HTTPHeader: header, Subprotocols: []string{api.ConsoleProtocol},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow() //nolint:errcheck // it has served
	var seen strings.Builder
	for !strings.Contains(seen.String(), serialText) {
		kind, data, err := conn.Read(ctx)
		if err != nil {
			t.Fatalf("the console of %s: %v; seen was %q", node, err, seen.String())
		}
		l.said.Write(data)
		var m api.ConsoleMessage
		switch {
		case kind == websocket.MessageBinary:
			seen.Write(data)
		case json.Unmarshal(data, &m) != nil || m.Error != nil:
			t.Fatalf("the console of %s says %s", node, data)
		case m.Ready:
			until(t, 10*time.Second, "the BMC reads the serial port", func(context.Context) (bool, error) { return port.Print(serialText), nil })
		}
	}
	l.secret("password that was typed on a console", typedWord)
	if err := conn.Write(ctx, websocket.MessageText, []byte(`{"keyboard": true}`)); err != nil {
		t.Fatal(err)
	}
	if err := conn.Write(ctx, websocket.MessageBinary, []byte(typedWord+"\r")); err != nil {
		t.Fatal(err)
	}
	until(t, 10*time.Second, "the machine has what was typed", func(context.Context) (bool, error) { return port.Typed() == typedWord+"\r", nil })
}

// readRecords reads what was recorded of a console: files that are over are
// compressed.
func (l *life) readRecords(t *testing.T, node string) {
	t.Helper()
	until(t, 20*time.Second, "what the machine wrote is recorded", func(ctx context.Context) (bool, error) {
		records, err := l.client.ConsoleRecords(ctx, node)
		if err != nil {
			return false, err
		}
		var all strings.Builder
		for _, r := range records {
			if err := l.client.RawConsole(ctx, node, r.ID, &all); err != nil {
				return false, err
			}
		}
		l.said.WriteString(all.String())
		return strings.Contains(all.String(), serialText), nil
	})
}
