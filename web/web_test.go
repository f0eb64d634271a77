package web

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// full is a console with something in every field.
func full() Console {
	state := State{Name: "failed", Icon: "cross", Tone: "bad"}
	row := Row{
		ID: "n-1", Title: "prd-1", Sub: "52:54:00:00:00:01", State: state, Pool: "prd", Role: "worker", Href: "/?node=n-1", Phase: "write",
		Progress: 40, Attempt: 2, Code: "E-X", Slow: "slow", Reason: "reason", Hint: "hint", Selected: true, Order: "0prd-1", Version: "v",
		Approve: &Approve{Ref: "n-1", Back: "q=x", Denied: "needs role operator"},
		Line:    Line{Bars: []Bar{{Tone: "ph-power", X: 10, W: 20, Text: "power 2s"}}, Scale: 120, Since: 9, Begun: 8, Took: "1m", Text: "words"},
	}
	event := Event{Seq: 1, At: time.Unix(0, 0), Tone: "bad", Type: "node.failed", Node: "prd-1", Href: "/?node=n-1", Text: "text"}
	return Console{
		Shell: Shell{Title: "Nodes", Theme: "dark", User: "anna", Role: "operator", Demo: true, Now: 1, Alarm: &AlarmBar{Title: "2 alarms", Code: "E-X", Text: "text", More: "All"}},
		Query: "q", Problem: "problem", Hint: "hint", Tabs: []Tab{{Label: "All", Count: 1, Href: "/", Current: true}},
		Counts: Counts{Matches: 1, Total: 2, States: []Count{{State: state, N: 1, Href: "/", Current: true}}},
		Runs:   []Run{{ID: "prd-1", Pool: "prd", Image: "debian-12", State: "running", Live: true, Done: 1, Failed: 1, Working: 1, Held: 1, Total: 4, Elapsed: "1m", ETA: "2m", Bars: []Bar{{Tone: "good", W: 500}}}},
		Rows:   []Row{row}, Pages: Paging{Prev: "/", Next: "/?page=1", From: 1, To: 2}, Feed: []Event{event},
		Panel: &Panel{
			Row: row, Facts: []Fact{{Name: "MAC", Value: "x", Code: true}}, Times: []Time{{Phase: "write", Tone: "install", Took: "1s", Usual: "2s", Since: 1}},
			Disks: []Fact{{Name: "sda", Value: "1 TB"}}, Feed: []Event{event}, Close: "/", Failed: true, CLI: "provision --pool prd",
		},
		Legend: []Legend{{Tone: "power", Label: "Power on"}},
	}
}

// network is the page about the network with something in every field.
func network() Boot {
	c := full()
	return Boot{
		Shell: c.Shell, Alarms: []Alarm{{Code: "E-X", Title: "title", Fix: "fix", On: []AlarmOn{{On: "on", Detail: "detail", Since: "1m"}}}},
		Subnets: []Subnet{{
			Name: "rack", CIDR: "10.77.0.0/24", Mode: "full", Meaning: "all", By: "eno2", Ranges: []Use{{Class: "phones", Bars: []Bar{{Tone: "good", W: 500}}, Text: "text"}},
			Foreign: []Foreign{{Addr: "10.77.0.254", Words: "words"}, {Addr: "10.77.0.253", Words: "words", Expected: true}},
		}},
		Strays: []Foreign{{Addr: "192.168.1.1", Words: "words"}}, Next: "/boot?after=10.77.0.1", Traffic: c.Feed,
		Leases: []Lease{{Addr: "10.77.0.1", MAC: "m", Node: "prd-1", Href: "/", Subnet: "rack", State: "bound", Ends: "1m"}, {Addr: "10.77.0.2", Hostname: "h"}},
	}
}

// serial is the page of a console with something in every field.
func serial() Serial {
	return Serial{
		Shell: full().Shell, Node: "prd-1", Path: "/nodes/n-1/console", Back: "/?node=n-1", Socket: "/api/v1/nodes/n-1/console", Nonce: "abc",
		Match: "panic", Record: "r", Problem: "problem", Hint: "hint", More: true, CLI: "provision console prd-1",
		Records: []SerialRecord{{ID: "r", Began: "today", Lasted: "1m", Why: "power", Size: "1 kB", Href: "/", Raw: "/", Current: true}},
		Lines:   []SerialLine{{Text: "Kernel panic"}},
	}
}

// TestFilesOfOthersAreAsTheyWereReleased compares what is in assets/ with what
// VENDORED.md says about it.
func TestFilesOfOthersAreAsTheyWereReleased(t *testing.T) {
	table, err := os.ReadFile("VENDORED.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile(`(?m)^\| (\S+) \| .* \| ([0-9a-f]{64}) \|$`).FindAllSubmatch(table, -1)
	if len(rows) != 2 {
		t.Errorf("the table has %d files, want 2", len(rows))
	}
	for _, row := range rows {
		data, err := os.ReadFile("assets/" + string(row[1]))
		if sum := sha256.Sum256(data); err != nil || hex.EncodeToString(sum[:]) != string(row[2]) {
			t.Errorf("%s has digest %x, %v", row[1], sum, err)
		}
	}
}

func TestEveryPageRenders(t *testing.T) {
	p, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	c := full()
	for name, view := range map[string]any{
		"console": c, "login": Login{Shell: c.Shell, Error: "error", Hint: "hint", DemoTip: true}, "fault": Fault{Shell: c.Shell, Status: 404, Detail: "d", Hint: "h", Code: "c"},
		"serial": serial(), "serial of a node without a BMC": Serial{Dead: "words"}, "boot": network(), "alarms": c.Alarm, "runs": c.Runs, "counts": c.Counts, "row": c.Rows[0], "panel": *c.Panel, "event": c.Feed[0], "empty": nil,
	} {
		if page, _, found := strings.Cut(name, " of "); found {
			name = page
		}
		if name == "empty" {
			name, view = "console", Console{}
		}
		t.Run(name, func(t *testing.T) {
			html, err := p.Render(name, view)
			if err != nil || len(html) < 20 {
				t.Fatalf("%d bytes, %v", len(html), err)
			}
			if bytes.Contains(html, []byte("<no value>")) || bytes.Contains(html, []byte("ZgotmplZ")) {
				t.Errorf("the page has a hole:\n%s", html)
			}
		})
	}
}

func TestEveryIconIsInTheSprite(t *testing.T) {
	p, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	html, err := p.Render("console", full())
	if err != nil {
		t.Fatal(err)
	}
	more, err := p.Render("boot", network())
	if err != nil {
		t.Fatal(err)
	}
	html = append(html, more...)
	for _, m := range regexp.MustCompile(`href="#(i-[a-z]+)"`).FindAllSubmatch(html, -1) {
		if !bytes.Contains(html, append([]byte(`id="`), m[1]...)) {
			t.Errorf("icon %s is used and not drawn", m[1])
		}
	}
}

func TestAssetsCarryTheirContentInTheirAddress(t *testing.T) {
	p, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	a, ok := p.Asset("console.css")
	link, err := p.link("console.css")
	if !ok || err != nil || link != "/assets/console.css?v="+a.Tag || a.Type != "text/css; charset=utf-8" {
		t.Errorf("link %q, %v; asset %v %s", link, err, ok, a.Type)
	}
	if _, err := p.link("nothing.css"); err == nil {
		t.Error("a link to nothing is no error")
	}
}

// TestColoursCanBeRead computes the contrast of every pair of text and ground
// that the style sheet uses (WCAG 2.2, 1.4.3 and 1.4.11), in both palettes.
func TestColoursCanBeRead(t *testing.T) {
	p, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	css, _ := p.Asset("console.css")
	light, dark := palettes(string(css.Data))
	for name, colours := range map[string]map[string]string{"light": light, "dark": dark} {
		for _, text := range []string{"text", "muted", "link", "good", "bad", "busy", "wait", "idle"} {
			for _, ground := range []string{"ground", "sheet", "raised", "hover"} {
				checkContrast(t, name, colours, text, ground, 4.5)
			}
		}
		checkContrast(t, name, colours, "text", "bad-ground", 4.5)
		checkContrast(t, name, colours, "bad", "bad-ground", 4.5)
		checkContrast(t, name, colours, "text", "wait-ground", 4.5)
		checkContrast(t, name, colours, "press-text", "press", 4.5)
		for _, mark := range []string{"line-strong", "focus", "ph-power", "ph-dhcp", "ph-loader", "ph-script", "ph-kernel", "ph-install", "ph-boot", "ph-docker", "ph-join"} {
			checkContrast(t, name, colours, mark, "sheet", 3)
		}
	}
}

func palettes(css string) (light, dark map[string]string) {
	light, dark = map[string]string{}, map[string]string{}
	for _, m := range regexp.MustCompile(`--([a-z-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\);`).FindAllStringSubmatch(css, -1) {
		light[m[1]], dark[m[1]] = m[2], m[3]
	}
	for _, m := range regexp.MustCompile(`--([a-z-]+): (#[0-9a-f]{6});`).FindAllStringSubmatch(css, -1) {
		light[m[1]], dark[m[1]] = m[2], m[2]
	}
	return light, dark
}

func checkContrast(t *testing.T, name string, colours map[string]string, fore, back string, want float64) {
	t.Helper()
	if colours[fore] == "" || colours[back] == "" {
		t.Errorf("%s: no colour %s or %s", name, fore, back)
		return
	}
	a, b := luminance(colours[fore]), luminance(colours[back])
	if got := (max(a, b) + 0.05) / (min(a, b) + 0.05); got < want {
		t.Errorf("%s: %s on %s has a contrast of %.2f, want %.1f", name, fore, back, got, want)
	}
}

func luminance(hex string) float64 {
	var sum float64
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		n, err := strconv.ParseUint(hex[1+2*i:3+2*i], 16, 8)
		if err != nil {
			panic(fmt.Sprintf("colour %s: %v", hex, err))
		}
		c := float64(n) / 255
		if c <= 0.04045 {
			sum += weight * c / 12.92
		} else {
			sum += weight * math.Pow((c+0.055)/1.055, 2.4)
		}
	}
	return sum
}

func TestDurationsAndSizes(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 51 * time.Second: "51s", 59*time.Second + 600*time.Millisecond: "1m00s", 346 * time.Second: "5m46s",
		62 * time.Minute: "1h02m", 72 * time.Hour: "3d",
	} {
		if got := Duration(d); got != want {
			t.Errorf("Duration(%d) = %s, want %s", d, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 960197124096: "960.2 GB", 4000787030016: "4 TB", 1 << 62: "4611.7 PB"} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %s, want %s", n, got, want)
		}
	}
}
