package http

import (
	"container/list"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/http/bootfile"
)

// Links are one-use URLs, /boot/t/<ticket>/<name>: the way to files that are
// not for everybody, made when a script that names one is fetched. A link is
// for the address that fetched the script. Firmware asks HEAD first, asks for
// parts and asks again when a packet was lost, so that the one use lasts a
// moment. Links live in memory: after a restart of the server none works.
type links struct {
	dir *os.Root // nil: there are no such files
	now func() time.Time

	mu     sync.Mutex
	made   map[[32]byte]*link        // by the hash of the ticket
	order  *list.List                // all of them, oldest first
	byAddr map[netip.Addr]*list.List // likewise
}

type link struct {
	hash    [32]byte
	name    string
	addr    netip.Addr
	expires time.Time
	used    bool

	among, own *list.Element // of all, and of its address
}

const (
	pathLinks = "/boot/t/"
	linkLife  = 30 * time.Minute // from the script to the fetch
	linkUse   = 2 * time.Minute  // from the first GET on
	maxLinks  = 1 << 16
	linksEach = 64 // of one address
)

var errLinks = errors.New("too many one-use links are open")

func openLinks(dir string, now func() time.Time) (*links, error) {
	l := &links{now: now, made: map[[32]byte]*link{}, order: list.New(), byAddr: map[netip.Addr]*list.List{}}
	if dir == "" {
		return l, nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open directory of private files: %w", err)
	}
	l.dir = root
	return l, nil
}

func (l *links) close() error {
	if l.dir == nil {
		return nil
	}
	return l.dir.Close()
}

// check reports whether a file can be given out.
func (l *links) check(name string) error {
	if l.dir == nil {
		return errors.New("this server has no folder of private files")
	}
	if !fileName(name) {
		return fmt.Errorf("%q is not the name of a file", name)
	}
	f, _, err := bootfile.OpenIn(l.dir, name)
	if err != nil {
		return fmt.Errorf("private file %s: %w", name, errors.Unwrap(err))
	}
	return f.Close()
}

// make returns the path of a new link to a file, for a machine at addr. Of too
// many for one address, the oldest makes room: that script was fetched anew.
func (l *links) make(name string, addr netip.Addr) (string, error) {
	secret, hash := fleet.NewSecret()
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	l.sweep(now)
	mine := l.byAddr[addr]
	if mine == nil {
		mine = list.New()
	}
	if mine.Len() >= linksEach {
		l.drop(mine.Front().Value.(*link)) //nolint:forcetypeassert // nothing else is in it
	}
	if l.order.Len() >= maxLinks {
		return "", errLinks
	}
	k := &link{hash: hash, name: name, addr: addr, expires: now.Add(linkLife)}
	k.among, k.own = l.order.PushBack(k), mine.PushBack(k)
	l.made[hash], l.byAddr[addr] = k, mine
	return linkPath(secret, name), nil
}

// sweep drops links that have expired, from the oldest on. One that is behind a
// longer-lived one waits for it.
func (l *links) sweep(now time.Time) {
	for e := l.order.Front(); e != nil; e = l.order.Front() {
		k := e.Value.(*link) //nolint:forcetypeassert // nothing else is in it
		if !now.After(k.expires) {
			return
		}
		l.drop(k)
	}
}

func (l *links) drop(k *link) {
	delete(l.made, k.hash)
	l.order.Remove(k.among)
	mine := l.byAddr[k.addr]
	mine.Remove(k.own)
	if mine.Len() == 0 {
		delete(l.byAddr, k.addr)
	}
}

func linkPath(ticket, name string) string { return pathLinks + ticket + "/" + name }

// use returns the file that a link is for. A GET begins its one use.
func (l *links) use(ticket, name, method string, addr netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	hash := fleet.HashSecret(ticket)
	k, ok := l.made[hash]
	now := l.now()
	if !ok || k.name != name || k.addr != addr || now.After(k.expires) {
		return false
	}
	if method == http.MethodGet && !k.used {
		k.used = true
		if end := now.Add(linkUse); end.Before(k.expires) {
			k.expires = end
		}
	}
	return true
}

// parseLink reads what stands behind [pathLinks].
func parseLink(rest string) (ticket, name string, ok bool) {
	ticket, name, ok = strings.Cut(rest, "/")
	return ticket, name, ok && len(ticket) == 43 && fileName(name)
}

// fileName reports whether a name is that of one plain file, not hidden.
func fileName(name string) bool {
	return name != "" && len(name) <= 255 && name[0] != '.' && !strings.ContainsAny(name, "/\\\x00")
}

// link serves a private file.
func (b boot) link(w http.ResponseWriter, req *http.Request, rest string) {
	ticket, name, ok := parseLink(rest)
	addr := remoteAddr(req)
	if !ok || b.links.dir == nil || !b.links.use(ticket, name, req.Method, addr) {
		b.counts.linksRefused.Add(1)
		b.o.Log.DebugContext(req.Context(), "one-use link refused", "addr", addr, "file", fleet.CleanText(name))
		http.Error(w, "this link has been used, has expired, or is another machine's: boot the machine again to get a new one", http.StatusGone)
		return
	}
	f, info, err := bootfile.OpenIn(b.links.dir, name)
	if err != nil {
		b.notFound(w, req)
		return
	}
	defer f.Close()
	b.counts.links.Add(1)
	w.Header().Set("Cache-Control", "no-store")
	bootfile.Serve(w, req, f, info, bootfile.Tag(info))
}
