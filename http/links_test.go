package http

import (
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/fleet"
)

// A linkDesk serves private files to one approved machine, whose custom
// script names one.
type linkDesk struct {
	t    *testing.T
	base string
	e    *rackEngine
	now  time.Time
	dir  string
	book leaseBook
}

func newLinkDesk(t *testing.T) *linkDesk {
	t.Helper()
	d := &linkDesk{t: t, now: time.Unix(1_800_000_000, 0), dir: t.TempDir(), book: leaseBook{netip.MustParseAddr("127.0.0.1"): "52:54:00:00:00:11"}}
	writeFile(t, filepath.Join(d.dir, "secret.cfg"), "the secret of prd")
	writeFile(t, filepath.Join(d.dir, ".hidden"), "hidden")
	d.base, d.e = serveBoot(t, func(o *Options) {
		o.PrivateDir, o.Leases, o.Now = d.dir, d.book, func() time.Time { return d.now }
	})
	d.e.nodes = append(d.e.nodes, fleet.Node{ID: "n-0000000011", Name: "ready-1", MAC: "52:54:00:00:00:11", State: fleet.Ready, Approved: true})
	d.e.site.Scripts = []fleet.Script{{Name: "mine", Nodes: []string{"ready-1"}, IPXE: "#!ipxe\nkernel x {{private \"secret.cfg\"}}\n"}}
	return d
}

// link fetches the script, and returns the path of the link in it.
func (d *linkDesk) link() string {
	d.t.Helper()
	_, body := fetch(d.t, d.base, "GET", "/boot/ipxe?mac=52-54-00-00-00-11")
	_, path, ok := strings.Cut(body, "/boot/t/")
	if !ok {
		d.t.Fatalf("no link in\n%s", body)
	}
	return "/boot/t/" + strings.Fields(path)[0]
}

func (d *linkDesk) want(method, path string, status int, headers ...string) string {
	d.t.Helper()
	res, body := fetch(d.t, d.base, method, path, headers...)
	if res.StatusCode != status || status != 200 && strings.Contains(body, "secret of") {
		d.t.Errorf("%s %s: status %d, %q; want %d", method, path, res.StatusCode, body, status)
	}
	return body
}

func TestOneUseLinks(t *testing.T) {
	tests := map[string]func(d *linkDesk){
		"HEAD, GET, and again when a packet was lost": func(d *linkDesk) {
			path := d.link()
			d.want("HEAD", path, 200)
			if body := d.want("GET", path, 200); body != "the secret of prd" {
				d.t.Errorf("body %q", body)
			}
			d.now = d.now.Add(linkUse - time.Second)
			d.want("GET", path, 206, "Range: bytes=4-9")
		},
		"not after its use": func(d *linkDesk) {
			path := d.link()
			d.want("GET", path, 200)
			d.now = d.now.Add(linkUse + time.Second)
			if body := d.want("GET", path, 410); !strings.Contains(body, "boot the machine again") {
				d.t.Errorf("body %q does not say what to do", body)
			}
			d.want("HEAD", path, 410)
		},
		"HEAD is no use": func(d *linkDesk) {
			path := d.link()
			d.want("HEAD", path, 200)
			d.now = d.now.Add(linkUse + time.Second)
			d.want("GET", path, 200)
		},
		"asking again and again does not make it last": func(d *linkDesk) {
			path := d.link()
			for range 3 {
				d.want("GET", path, 200)
				d.now = d.now.Add(50 * time.Second)
			}
			d.want("GET", path, 410)
		},
		"not when it has expired": func(d *linkDesk) {
			path := d.link()
			d.now = d.now.Add(linkLife + time.Second)
			d.want("GET", path, 410)
		},
		"not for another file": func(d *linkDesk) {
			d.want("GET", strings.Replace(d.link(), "secret.cfg", ".hidden", 1), 410)
			d.want("GET", strings.Replace(d.link(), "secret.cfg", "other", 1), 410)
		},
		"not by another name of the ticket": func(d *linkDesk) {
			d.want("GET", "/boot/t/"+strings.Repeat("A", 43)+"/secret.cfg", 410)
			d.want("GET", "/boot/t//secret.cfg", 410)
			d.want("GET", "/boot/t/secret.cfg", 410)
			d.want("GET", "/boot/secret.cfg", 404)
		},
		"not out of its folder": func(d *linkDesk) {
			d.want("GET", d.link()+"/../../../secret.cfg", 404)
		},
		"not in the answer to HEAD": func(d *linkDesk) {
			res, _ := fetch(d.t, d.base, "HEAD", "/boot/ipxe?mac=52-54-00-00-00-11")
			_, body := fetch(d.t, d.base, "GET", "/boot/ipxe?mac=52-54-00-00-00-11")
			if res.ContentLength != int64(len(body)) {
				d.t.Errorf("HEAD says %d bytes, GET gives %d", res.ContentLength, len(body))
			}
		},
		"not without a lease of ours": func(d *linkDesk) {
			clear(d.book)
			if _, body := fetch(d.t, d.base, "GET", "/boot/ipxe?mac=52-54-00-00-00-11"); strings.Contains(body, "/boot/t/") {
				d.t.Errorf("a link for anybody:\n%s", body)
			}
		},
		"not for a machine that nobody let in": func(d *linkDesk) {
			d.e.nodes[len(d.e.nodes)-1].Approved = false
			if _, body := fetch(d.t, d.base, "GET", "/boot/ipxe?mac=52-54-00-00-00-11"); strings.Contains(body, "/boot/t/") {
				d.t.Errorf("a link for anybody:\n%s", body)
			}
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { test(newLinkDesk(t)) })
	}
}

func TestALinkIsForItsAddress(t *testing.T) {
	l, err := openLinks(t.TempDir(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	mine, other := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	path, err := l.make("x", mine)
	if err != nil {
		t.Fatal(err)
	}
	ticket, name, ok := parseLink(strings.TrimPrefix(path, pathLinks))
	if !ok || l.use(ticket, name, "GET", other) || !l.use(ticket, name, "GET", mine) {
		t.Errorf("the link %s works for another address, or not for its own", path)
	}
}

// addrOf is the address of one of many machines.
func addrOf(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}) }

func TestLinksAreBounded(t *testing.T) {
	now := time.Unix(0, 0)
	l, err := openLinks("", func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxLinks {
		if _, err := l.make("x", addrOf(i/linksEach)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.make("x", addrOf(maxLinks-1)); err == nil {
		t.Error("one more link was made")
	}
	if _, err := l.make("x", addrOf(0)); err != nil {
		t.Errorf("in the place of an older one of the same machine: %v", err)
	}
	now = now.Add(linkLife + time.Second)
	if _, err := l.make("x", addrOf(maxLinks-1)); err != nil {
		t.Errorf("after the others expired: %v", err)
	}
	if len(l.made) != 1 || l.order.Len() != 1 || len(l.byAddr) != 1 {
		t.Errorf("%d links, %d in order, of %d addresses are kept; want one", len(l.made), l.order.Len(), len(l.byAddr))
	}
}

func TestAMachineThatAsksWithoutEndLeavesRoomForOthers(t *testing.T) {
	l, err := openLinks("", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	var first, last string
	for i := range 2 * maxLinks {
		if last, err = l.make("x", addrOf(1)); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = last
		}
	}
	works := func(path string) bool {
		ticket, name, _ := parseLink(strings.TrimPrefix(path, pathLinks))
		return l.use(ticket, name, "GET", addrOf(1))
	}
	if len(l.made) != linksEach || works(first) || !works(last) {
		t.Errorf("%d links, the first works: %t, the last: %t; want %d, and the last ones", len(l.made), works(first), works(last), linksEach)
	}
	if _, err := l.make("x", addrOf(2)); err != nil {
		t.Errorf("for another machine: %v", err)
	}
}

func FuzzLinkPath(f *testing.F) {
	for _, rest := range capturedURLs(f, pathLinks) {
		f.Add(rest)
	}
	for _, s := range []string{strings.Repeat("A", 43) + "/secret.cfg", "/", "", strings.Repeat("A", 43) + "/../x", strings.Repeat("A", 43) + "/.x", "a/b/c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, rest string) {
		ticket, name, ok := parseLink(rest)
		if !ok {
			return
		}
		if linkPath(ticket, name) != pathLinks+rest || filepath.Base(name) != name || name == ".." || strings.ContainsRune(name, 0) {
			t.Errorf("%q is ticket %q, file %q", rest, ticket, name)
		}
	})
}
