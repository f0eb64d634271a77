package browser

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
)

// A Page is one tab.
type Page struct {
	b       *Browser
	session string

	mu     sync.Mutex
	faults []string
}

// Page opens an empty tab.
func (b *Browser) Page() *Page {
	b.tb.Helper()
	p := &Page{b: b}
	b.mu.Lock()
	b.events = p.hear
	b.mu.Unlock()
	var target struct{ TargetID string }
	p.must("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	p.must("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	p.session = attached.SessionID
	for _, domain := range []string{"Page.enable", "Runtime.enable", "Log.enable"} {
		p.must(domain, nil, nil)
	}
	return p
}

func (p *Page) must(method string, params map[string]any, out any) {
	p.b.tb.Helper()
	if params == nil {
		params = map[string]any{}
	}
	if err := p.b.do(p.session, method, params, out); err != nil {
		p.b.tb.Fatal(err)
	}
}

// hear keeps what the page has done wrong.
func (p *Page) hear(m message) {
	var e struct {
		Entry            struct{ Level, Text, URL string }
		ExceptionDetails struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	if json.Unmarshal(m.Params, &e) != nil {
		return
	}
	fault := ""
	switch {
	case m.Method == "Runtime.exceptionThrown":
		fault = e.ExceptionDetails.Text + " " + e.ExceptionDetails.Exception.Description
	case m.Method == "Log.entryAdded" && e.Entry.Level == "error":
		fault = e.Entry.Text + " " + e.Entry.URL
	default:
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, strings.TrimSpace(fault))
}

// Faults returns what the page has done wrong until now: exceptions, what its
// policy forbids, what could not be loaded.
func (p *Page) Faults() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.faults)
}

// Open goes to an address, and waits until what is there is loaded.
func (p *Page) Open(address string) {
	p.b.tb.Helper()
	var gone struct{ ErrorText string }
	p.must("Page.navigate", map[string]any{"url": address}, &gone)
	if gone.ErrorText != "" {
		p.b.tb.Fatalf("open %s: %s", address, gone.ErrorText)
	}
	p.Await(`document.readyState === "complete"`)
}

// Await waits until an expression is true, also across a change of page.
func (p *Page) Await(condition string) {
	p.b.tb.Helper()
	look := "new Promise((done) => { const look = () => (" + condition + ") ? done(true) : setTimeout(look, 20); look(); })"
	deadline := time.Now().Add(patience)
	for {
		yes, err := p.eval(look, time.Until(deadline))
		if yes == true {
			return
		}
		if time.Now().After(deadline) || err != nil && !movedOn(err) {
			p.b.tb.Fatalf("the page does not get to %s: %v\n%s", condition, err, p.Text("body"))
		}
	}
}

// movedOn reports whether a page has given way to another one meanwhile.
func movedOn(err error) bool {
	text := err.Error()
	return strings.Contains(text, "navigated") || strings.Contains(text, "context was destroyed") || strings.Contains(text, "Cannot find context")
}

// eval returns what an expression, or the promise that it makes, comes to; nil
// when its time is over.
func (p *Page) eval(expression string, within time.Duration) (any, error) {
	limited := fmt.Sprintf("Promise.race([%s, new Promise((done) => setTimeout(done, %d, null))])", expression, within.Milliseconds())
	var out struct {
		Result           struct{ Value any }
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	err := p.b.do(p.session, "Runtime.evaluate", map[string]any{"expression": limited, "awaitPromise": true, "returnByValue": true}, &out)
	if err == nil && out.ExceptionDetails != nil {
		err = fmt.Errorf("%s %s", out.ExceptionDetails.Text, out.ExceptionDetails.Exception.Description)
	}
	return out.Result.Value, err
}

// Text returns the text of the first element that a selector finds.
func (p *Page) Text(selector string) string {
	p.b.tb.Helper()
	text, err := p.eval(fmt.Sprintf("document.querySelector(%q)?.innerText", selector), patience)
	if err != nil {
		p.b.tb.Errorf("read %s: %v", selector, err)
	}
	s, _ := text.(string)
	return s
}

// Click clicks on the middle of the first element that a selector finds, as
// soon as it can be.
func (p *Page) Click(selector string) {
	p.b.tb.Helper()
	p.Await(fmt.Sprintf(`(document.querySelector(%q)?.offsetParent && !document.querySelector(%q).disabled)`, selector, selector))
	at, err := p.eval(fmt.Sprintf(`(() => { const el = document.querySelector(%q); el.scrollIntoView({block: "nearest"}); const r = el.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()`, selector), patience)
	where, ok := at.([]any)
	if err != nil || !ok {
		p.b.tb.Fatalf("find %s: %v %v", selector, at, err)
	}
	for _, kind := range []string{"mousePressed", "mouseReleased"} {
		p.must("Input.dispatchMouseEvent", map[string]any{"type": kind, "x": where[0], "y": where[1], "button": "left", "clickCount": 1}, nil)
	}
}

// Type presses the keys of a text, one after the other, wherever the focus is.
func (p *Page) Type(text string) {
	p.b.tb.Helper()
	for _, r := range text {
		key := map[string]any{"key": string(r), "text": string(r)}
		switch { // the other codes are not those of characters
		case r == '\r':
			key["key"], key["code"], key["windowsVirtualKeyCode"] = "Enter", "Enter", r
		case r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r)):
			key["windowsVirtualKeyCode"] = unicode.ToUpper(r)
		}
		for _, kind := range []string{"keyDown", "keyUp"} {
			if key["type"] = kind; kind == "keyUp" {
				delete(key, "text")
			}
			p.must("Input.dispatchKeyEvent", key, nil)
		}
	}
}

// See sets how large the page is and whether it is dark.
func (p *Page) See(width, height int, dark bool) {
	p.b.tb.Helper()
	scheme := map[bool]string{true: "dark", false: "light"}[dark]
	p.must("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false}, nil)
	p.must("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
}

// Picture returns what the page looks like, as PNG.
func (p *Page) Picture() []byte {
	p.b.tb.Helper()
	var shot struct{ Data []byte }
	p.must("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true}, &shot)
	return shot.Data
}
