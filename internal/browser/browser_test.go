package browser_test

import (
	"bytes"
	"fmt"
	"image/png"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/rackstage/provision/internal/browser"
)

const page = `<!doctype html><title>a page</title><link rel="icon" href="data:,">
<style>body { background: white } @media (prefers-color-scheme: dark) { body { background: black } }</style>
<form action="/next"><input id="text" name="text"><button id="go" disabled>go</button></form>
<script>document.getElementById("text").addEventListener("input", () => { document.getElementById("go").disabled = false; });</script>`

// A page is typed into, clicked on, and gives way to the next one.
func TestAPageIsUsedAsByAPerson(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/next" {
			fmt.Fprintf(w, "<!doctype html><link rel=icon href='data:,'><p id=got>%q</p><script>throw new Error('a fault of the page')</script>", r.URL.Query().Get("text"))
			return
		}
		fmt.Fprint(w, page)
	}))
	defer srv.Close()
	p := browser.Start(t).Page()
	p.Open(srv.URL)
	for _, dark := range []bool{false, true} {
		p.See(320, 200, dark)
		img, err := png.Decode(bytes.NewReader(p.Picture()))
		if err != nil {
			t.Fatal(err)
		}
		if r, _, _, _ := img.At(300, 180).RGBA(); img.Bounds().Dx() != 320 || (r == 0) != dark {
			t.Errorf("dark %t: %d pixels wide, red is %d", dark, img.Bounds().Dx(), r)
		}
	}
	p.Click("#text")
	p.Type("Hello, Rack 7\r")
	p.Await(`document.getElementById("got")`)
	if got := p.Text("#got"); got != `"Hello, Rack 7"` {
		t.Errorf("the next page got %s", got)
	}
	if faults := p.Faults(); !slices.ContainsFunc(faults, func(f string) bool { return strings.Contains(f, "a fault of the page") }) {
		t.Errorf("faults are %q", faults)
	}
}
