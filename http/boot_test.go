package http

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rackstage/provision/fleet"
)

// serveBoot runs the boot listener on a real connection.
func serveBoot(t *testing.T, change ...func(*Options)) (string, *rackEngine) {
	t.Helper()
	s, e := newTestServer(t, change...)
	server := httptest.NewServer(s.BootHandler())
	t.Cleanup(server.Close)
	return server.URL, e
}

// fetch sends one request as firmware does: the path goes out as it stands.
func fetch(t *testing.T, base, method, path string, headers ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, base, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.URL.Opaque = strings.TrimPrefix(base, "http:") + path
	for _, h := range headers {
		key, value, ok := strings.Cut(h, ": ")
		if !ok {
			continue
		}
		req.Header.Set(key, value)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

func TestBootFiles(t *testing.T) {
	base, _ := serveBoot(t)
	chunk := "/chunks/0123/" + testChunk + ".cacnk"
	tests := map[string]struct {
		method, path, rang string
		status             int
		body               string
		length             int64
	}{
		"the kernel":                                {"GET", "/boot/vmlinuz", "", 200, "kernel kernel kernel", 20},
		"HEAD gives length and no body":             {"HEAD", "/boot/vmlinuz", "", 200, "", 20},
		"a range":                                   {"GET", "/boot/vmlinuz", "bytes=7-12", 206, "kernel", 6},
		"the end of a file":                         {"GET", "/boot/vmlinuz", "bytes=-6", 206, "kernel", 6},
		"a range behind the end":                    {"GET", "/boot/vmlinuz", "bytes=100-", 416, "", -2},
		"a loader":                                  {"GET", "/boot/snponly.efi", "", 200, "loader", 6},
		"double slashes, as shim writes them":       {"GET", "/boot//snponly.efi", "", 200, "loader", 6},
		"double slashes in front":                   {"GET", "//boot/snponly.efi", "", 200, "loader", 6},
		"HEAD with double slashes":                  {"HEAD", "/boot//snponly.efi", "", 200, "", 6},
		"a chunk":                                   {"GET", chunk, "", 200, "chunk", 5},
		"HEAD of a chunk":                           {"HEAD", chunk, "", 200, "", 5},
		"a range of a chunk":                        {"GET", chunk, "bytes=1-2", 206, "hu", 2},
		"a chunk in the wrong folder":               {"GET", "/chunks/0124/" + testChunk + ".cacnk", "", 404, "", -2},
		"a chunk that is not there":                 {"GET", "/chunks/ffff/" + strings.Repeat("f", 64) + ".cacnk", "", 404, "", -2},
		"a chunk with upper-case digits":            {"GET", "/chunks/ABCD/" + strings.Repeat("ABCD", 16) + ".cacnk", "", 404, "", -2},
		"the way out by dots":                       {"GET", "/boot/../outside", "", 404, "", -2},
		"the way out by escaped dots":               {"GET", "/boot/%2e%2e%2foutside", "", 404, "", -2},
		"the way out by a link":                     {"GET", "/boot/link", "", 404, "", -2},
		"a hidden file":                             {"GET", "/boot/.hidden", "", 404, "", -2},
		"a name with a zero byte":                   {"GET", "/boot/vmlinuz%00", "", 404, "", -2},
		"the folder":                                {"GET", "/boot/", "", 404, "", -2},
		"the folder of chunks":                      {"GET", "/chunks/", "", 404, "", -2},
		"what is not there":                         {"GET", "/boot/revocations.efi", "", 404, "", -2},
		"POST":                                      {"POST", "/boot/vmlinuz", "", 405, "", -2},
		"the API is not on this listener":           {"GET", "/api/v1/health", "", 404, "", -2},
		"agents are not served on this listener":    {"POST", "/agent/v1/hello", "", 405, "", -2},
		"the console is not on this listener":       {"GET", "/", "", 404, "", -2},
		"the login page is not on this listener":    {"GET", "/login", "", 404, "", -2},
		"assets of the console are not here either": {"GET", "/assets/console.css", "", 404, "", -2},
		"a very long name":                          {"GET", "/boot/" + strings.Repeat("x", 5000), "", 404, "", -2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			headers := []string{}
			if tt.rang != "" {
				headers = append(headers, "Range: "+tt.rang)
			}
			res, body := fetch(t, base, tt.method, tt.path, headers...)
			if res.StatusCode != tt.status {
				t.Fatalf("status %d, want %d", res.StatusCode, tt.status)
			}
			if tt.length != -2 && (body != tt.body || res.ContentLength != tt.length) {
				t.Errorf("body %q of length %d, want %q of %d", body, res.ContentLength, tt.body, tt.length)
			}
			if strings.Contains(body, "secret") || strings.Contains(body, "<a href") {
				t.Errorf("body shows what it must not: %q", body)
			}
		})
	}
}

func TestBootFilesHaveStrongETags(t *testing.T) {
	var dir string
	base, _ := serveBoot(t, func(o *Options) { dir = o.BootDir })
	first, _ := fetch(t, base, "GET", "/boot/vmlinuz")
	tag := first.Header.Get("ETag")
	if tag == "" || strings.HasPrefix(tag, "W/") {
		t.Fatalf("ETag = %q, want a strong one", tag)
	}
	if res, _ := fetch(t, base, "GET", "/boot/vmlinuz", "If-None-Match: "+tag); res.StatusCode != 304 {
		t.Errorf("status with If-None-Match %d, want 304", res.StatusCode)
	}
	if res, _ := fetch(t, base, "GET", "/boot/vmlinuz", "If-Range: "+tag, "Range: bytes=0-0"); res.StatusCode != 206 {
		t.Errorf("status with If-Range %d, want 206", res.StatusCode)
	}
	fresh := filepath.Join(dir, "new")
	if err := os.WriteFile(fresh, []byte("KERNEL KERNEL KERNEL"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(fresh, filepath.Join(dir, "vmlinuz")); err != nil {
		t.Fatal(err)
	}
	if res, body := fetch(t, base, "GET", "/boot/vmlinuz", "If-Range: "+tag, "Range: bytes=7-"); res.StatusCode != 200 || len(body) != 20 {
		t.Errorf("after the file was replaced: status %d, %d bytes; want all of the new file", res.StatusCode, len(body))
	}
	res, _ := fetch(t, base, "GET", "/chunks/0123/"+testChunk+".cacnk")
	if got := res.Header.Get("ETag"); got != `"`+testChunk+`"` {
		t.Errorf("ETag of a chunk = %s, want its name", got)
	}
}

func TestBootScripts(t *testing.T) {
	here := netip.MustParseAddr("127.0.0.1")
	tests := map[string]struct {
		lease fleet.MAC
		path  string
		has   []string
		hasNo []string
		seen  fleet.MAC
	}{
		"a machine that we do not know boots our agent": {
			path: "/boot/ipxe?mac=52-54-00-00-00-99&uuid=x",
			has:  []string{"/boot/vmlinuz", "/boot/initrd.img", "provision.server=https://127.0.0.1:8443", "provision.ca=sha256:", "provision.ticket=", "BOOTIF=01-52-54-00-00-00-99"},
			seen: "52:54:00:00:00:99",
		},
		"an active node boots its disk": {
			path: "/boot/ipxe?mac=52-54-00-00-00-01", has: []string{"sanboot"}, hasNo: []string{"ticket", "vmlinuz"}, seen: "52:54:00:00:00:01",
		},
		"who asks for another machine's script gets his own": {
			lease: "52:54:00:00:00:66", path: "/boot/ipxe?mac=52-54-00-00-00-01",
			has: []string{"BOOTIF=01-52-54-00-00-00-66"}, hasNo: []string{"sanboot"}, seen: "52:54:00:00:00:66",
		},
		"the lease tells who asks": {
			lease: "52:54:00:00:00:01", path: "/boot/ipxe", has: []string{"sanboot"}, seen: "52:54:00:00:00:01",
		},
		"who cannot be told gets nothing": {path: "/boot/ipxe", has: []string{"no MAC address"}, hasNo: []string{"vmlinuz", "ticket"}},
		"a hostile MAC is no MAC": {
			path: "/boot/ipxe?mac=%0Achain%20http://evil/", has: []string{"no MAC address"}, hasNo: []string{"evil"},
		},
		"autoexec.ipxe asks for the script":                   {path: "/autoexec.ipxe", has: []string{"ifopen net${card}", "/boot/ipxe?mac=${net${card}/mac:hexhyp}"}},
		"autoexec.ipxe beside the loader asks for the script": {path: "/boot/autoexec.ipxe", has: []string{"ifopen net${card}"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			base, e := serveBoot(t, func(o *Options) {
				if tt.lease != "" {
					o.Leases = leaseBook{here: tt.lease}
				}
			})
			res, body := fetch(t, base, "GET", tt.path)
			if res.StatusCode != 200 || !strings.HasPrefix(body, "#!ipxe\n") {
				t.Fatalf("answer %d %q, want a script", res.StatusCode, body)
			}
			for _, want := range tt.has {
				if !strings.Contains(body, want) {
					t.Errorf("script lacks %q:\n%s", want, body)
				}
			}
			for _, no := range tt.hasNo {
				if strings.Contains(body, no) {
					t.Errorf("script has %q:\n%s", no, body)
				}
			}
			var seen fleet.MAC
			for _, ev := range e.evidence() {
				seen = ev.MAC
			}
			if seen != tt.seen {
				t.Errorf("evidence of %q, want %q", seen, tt.seen)
			}
		})
	}
}

func TestOnlyLeasesAreBelievedWhereWeGiveTheAddresses(t *testing.T) {
	here := netip.MustParseAddr("127.0.0.1")
	tests := map[string]struct {
		mode   fleet.DHCPMode
		leases Leases
		ticket bool
	}{
		"full, without a lease":             {fleet.Full, leaseBook{}, false},
		"reserved, without a lease":         {fleet.Reserved, leaseBook{}, false},
		"full, a lease of nobody":           {fleet.Full, leaseBook{here: ""}, false},
		"full, with a lease":                {fleet.Full, leaseBook{here: "52:54:00:00:00:99"}, true},
		"reserved, with a lease":            {fleet.Reserved, leaseBook{here: "52:54:00:00:00:99"}, true},
		"full, but nobody knows the leases": {fleet.Full, nil, true},
		"proxy: another server gives them":  {fleet.Proxy, leaseBook{}, true},
		"observe: the same":                 {fleet.Observe, leaseBook{}, true},
		"no declared subnet":                {"", leaseBook{}, false},
		"no declared subnet, with a lease":  {"", leaseBook{here: "52:54:00:00:00:99"}, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			base, e := serveBoot(t, func(o *Options) { o.Leases = tt.leases })
			why := "no declared subnet: declare it in site.yaml"
			if tt.mode != "" {
				why = "no lease from this server"
				e.site.Subnets = []fleet.Subnet{{Name: "rack", CIDR: netip.MustParsePrefix("127.0.0.0/8"), Mode: tt.mode}}
			}
			res, body := fetch(t, base, "GET", "/boot/ipxe?mac=52-54-00-00-00-99")
			if res.StatusCode != 200 || strings.Contains(body, "provision.ticket=") != tt.ticket || (e.minted == 1) != tt.ticket {
				t.Errorf("status %d, %d tickets made, want one: %v\n%s", res.StatusCode, e.minted, tt.ticket, body)
			}
			if !tt.ticket && (!strings.Contains(body, why) || len(e.evidence()) != 0) {
				t.Errorf("want a script that says why and no evidence, got %v and\n%s", e.evidence(), body)
			}
		})
	}
}

// A rented book has an address that another server gave to a machine, as that says.
type rented struct{ leaseBook }

// TenantAt implements Leases.
func (rented) TenantAt(addr netip.Addr) (fleet.MAC, bool) {
	return "52:54:00:00:00:99", addr == netip.MustParseAddr("127.0.0.1")
}

func TestWhatAMachineSaidOfItsAddressIsEnoughForEvidenceAndForNothingElse(t *testing.T) {
	here := netip.MustParseAddr("127.0.0.1")
	tests := map[string]struct {
		mode   fleet.DHCPMode
		leases leaseBook
		path   string
		want   fleet.MAC
	}{
		"it fetches a file":              {fleet.Proxy, leaseBook{}, "/boot/vmlinuz", "52:54:00:00:00:99"},
		"where we watch":                 {fleet.Observe, leaseBook{}, "/boot/vmlinuz", "52:54:00:00:00:99"},
		"it has a lease of ours":         {fleet.Proxy, leaseBook{here: "52:54:00:00:00:66"}, "/boot/vmlinuz", "52:54:00:00:00:66"},
		"the request says who it is":     {fleet.Proxy, leaseBook{}, "/boot/vmlinuz?mac=52-54-00-00-00-77", "52:54:00:00:00:77"},
		"where we alone give addresses":  {fleet.Full, leaseBook{}, "/boot/vmlinuz", ""},
		"its script has to be asked for": {fleet.Proxy, leaseBook{}, "/boot/ipxe", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			base, e := serveBoot(t, func(o *Options) { o.Leases = rented{tt.leases} })
			e.site.Subnets = []fleet.Subnet{{Name: "rack", CIDR: netip.MustParsePrefix("127.0.0.0/8"), Mode: tt.mode}}
			res, body := fetch(t, base, "GET", tt.path)
			if res.StatusCode != 200 || e.minted != 0 {
				t.Errorf("status %d, %d tickets made:\n%s", res.StatusCode, e.minted, body)
			}
			var seen fleet.MAC
			for _, ev := range e.evidence() {
				seen = ev.MAC
			}
			if seen != tt.want {
				t.Errorf("evidence of %q, want %q", seen, tt.want)
			}
		})
	}
}

func TestAMachineThatIsToldToLoadWhatIsNotThereHasThatOnItsTimeline(t *testing.T) {
	here := netip.MustParseAddr("127.0.0.1")
	absent := func(file string) string {
		if file == "ipxe.efi" || file == "vmlinuz" {
			return "it is not there: fetch it"
		}
		return ""
	}
	tests := map[string]struct {
		method, path string
		leases       leaseBook
		want         string
	}{
		"a loader":                {"HEAD", "/boot/ipxe.efi", leaseBook{here: "52:54:00:00:00:99"}, "HEAD ipxe.efi from 127.0.0.1: it is not there: fetch it"},
		"as shim asks for it":     {"GET", "//ipxe.efi", leaseBook{here: "52:54:00:00:00:99"}, "GET ipxe.efi from 127.0.0.1: it is not there: fetch it"},
		"of a machine unknown":    {"GET", "/boot/ipxe.efi", leaseBook{}, ""},
		"what nobody is told of":  {"GET", "/boot/revocations.efi", leaseBook{here: "52:54:00:00:00:99"}, ""},
		"what is there, its head": {"HEAD", "/boot/vmlinuz", leaseBook{here: "52:54:00:00:00:99"}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			base, e := serveBoot(t, func(o *Options) { o.Leases, o.Absent = tt.leases, absent })
			fetch(t, base, tt.method, tt.path)
			seen := e.evidence()
			if len(seen) == 0 && tt.want == "" {
				return
			}
			if len(seen) != 1 || seen[0].Detail != tt.want || seen[0].Phase != "" || seen[0].File != "" {
				t.Errorf("seen %+v, want %q", seen, tt.want)
			}
		})
	}
}

func TestBootTicketsAreLimitedPerAddress(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	base, e := serveBoot(t, func(o *Options) { o.Now = func() time.Time { return now } })
	ask := func(method string) *http.Response {
		res, _ := fetch(t, base, method, "/boot/ipxe?mac=52-54-00-00-00-99")
		return res
	}
	for i := range strangerBurst {
		if code := ask("GET").StatusCode; code != 200 {
			t.Fatalf("script %d: status %d, want 200", i+1, code)
		}
	}
	res := ask("GET")
	if res.StatusCode != http.StatusTooManyRequests || res.Header.Get("Retry-After") != "2" || e.minted != strangerBurst {
		t.Errorf("beyond the burst: status %d, Retry-After %q, %d tickets; want 429, 2 and %d", res.StatusCode, res.Header.Get("Retry-After"), e.minted, strangerBurst)
	}
	if n := len(e.evidence()); n != strangerBurst {
		t.Errorf("%d facts, want %d: a refusal proves nothing", n, strangerBurst)
	}
	if code := ask("HEAD").StatusCode; code != 200 {
		t.Errorf("HEAD, which costs no ticket: status %d, want 200", code)
	}
	now = now.Add(2 * time.Second)
	if code := ask("GET").StatusCode; code != 200 {
		t.Errorf("after Retry-After: status %d, want 200", code)
	}
}

func TestHEADOfAScriptSpendsNoTicket(t *testing.T) {
	base, e := serveBoot(t)
	head, body := fetch(t, base, "HEAD", "/boot/ipxe?mac=52-54-00-00-00-99")
	if e.minted != 0 || body != "" || len(e.evidence()) != 0 {
		t.Errorf("HEAD minted %d tickets, body %q, %d facts; want none", e.minted, body, len(e.evidence()))
	}
	get, _ := fetch(t, base, "GET", "/boot/ipxe?mac=52-54-00-00-00-99")
	if head.ContentLength != get.ContentLength || e.minted != 1 {
		t.Errorf("lengths %d and %d, %d tickets; want equal lengths and one", head.ContentLength, get.ContentLength, e.minted)
	}
}

func TestEvidenceOfABoot(t *testing.T) {
	here := netip.MustParseAddr("127.0.0.1")
	base, e := serveBoot(t, func(o *Options) { o.Leases = leaseBook{here: "52:54:00:00:00:77"} })
	for _, f := range [][3]string{
		{"HEAD", "/boot/snponly.efi"},
		{"GET", "/boot/snponly.efi"},
		{"GET", "/boot/ipxe"},
		{"GET", "/boot/vmlinuz"},
		{"GET", "/boot/initrd.img", "Range: bytes=0-9"},
		{"GET", "/boot/initrd.img", "Range: bytes=10-19"},
		{"GET", "/boot/initrd.img"},
		{"GET", "/chunks/0123/" + testChunk + ".cacnk"},
		{"GET", "/boot/nothing"},
	} {
		fetch(t, base, f[0], f[1], f[2])
	}
	var got []string
	const facts = 6
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); len(e.evidence()) < facts && time.Now().Before(deadline); <-tick.C {
	} // the last one comes when the client has had its file
	for _, ev := range e.evidence() {
		got = append(got, fmt.Sprintf("%s %s %s", ev.MAC, ev.Phase, ev.Detail))
		if ev.Whole != strings.HasPrefix(ev.Detail, "has the ") {
			t.Errorf("%q: whole is %t", ev.Detail, ev.Whole)
		}
	}
	want := []string{
		"52:54:00:00:00:77 loader GET snponly.efi from 127.0.0.1",
		"52:54:00:00:00:77 script GET script script from 127.0.0.1",
		"52:54:00:00:00:77 kernel GET vmlinuz from 127.0.0.1",
		"52:54:00:00:00:77 kernel GET initrd.img from 127.0.0.1",
		"52:54:00:00:00:77 kernel GET initrd.img from 127.0.0.1", // whole
		"52:54:00:00:00:77 kernel has the 524288 bytes of initrd.img",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("evidence (-want +got):\n%s", diff)
	}
}

// TestReadersThatStandStill checks that one which has stopped reading holds
// its own connection and nothing else.
func TestAReaderThatStandsStillHoldsNobodyUp(t *testing.T) {
	base, _ := serveBoot(t)
	conn := dial(t, strings.TrimPrefix(base, "http://"), "")
	fmt.Fprintf(conn, "GET /boot/initrd.img HTTP/1.1\r\nHost: x\r\n\r\n")
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, "200") {
		t.Fatalf("status line %q, %v", line, err)
	}
	if res, _ := fetch(t, base, "GET", "/boot/vmlinuz"); res.StatusCode != 200 {
		t.Errorf("status for the others %d, want 200", res.StatusCode)
	}
}
