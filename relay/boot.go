package relay

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/http/bootfile"
	"github.com/rackstage/provision/internal/throttle"
	"github.com/rackstage/provision/pxe"
)

// Limits of the boot listener: those of the server's own, but for the connections
// of an address, which is that of one machine here.
const (
	headerTime   = 10 * time.Second
	idleTime     = 2 * time.Minute
	bootHeaders  = 8 << 10 // firmware says little
	connsPerAddr = 128
	connsInAll   = 20_000
	drainTime    = 5 * time.Second
	askTime      = 20 * time.Second // for an answer of the server's to a machine
)

const autoexec = "autoexec.ipxe"

func (r *Relay) serveHTTP(ctx context.Context, l net.Listener, keeper *throttle.Doorkeeper) error {
	server := &http.Server{
		Handler: r, ReadHeaderTimeout: headerTime, IdleTimeout: idleTime, MaxHeaderBytes: bootHeaders, ConnState: keeper.Watch,
		ErrorLog: slog.NewLogLogger(r.o.Log.Handler(), slog.LevelDebug), // bad requests of strangers
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := server.Serve(bootfile.Listener{Listener: l, Ends: &r.tally.ends}); !errors.Is(err, http.ErrServerClosed) && ctx.Err() == nil {
			return err
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			_ = server.Close()
		}
		return nil
	})
	return group.Wait()
}

// ServeHTTP answers GET and HEAD of firmware, loaders and agents: files and
// chunks from the cache, all else from the server, in the machine's name.
func (r *Relay) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	defer r.survive(w, req)
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		r.tally.badMethods.Add(1)
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "GET or HEAD only", http.StatusMethodNotAllowed)
		return
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(bootfile.StallTime))
	who, ok := speakerOf(req)
	if !ok {
		http.Error(w, "no address", http.StatusBadRequest)
		return
	}
	name := path.Clean("/" + req.URL.Path)
	if id, ok := chunkOf(name); ok {
		r.sendBlob(w, req, blob{chunk, id}, 0, r.link.chunk(id))
		return
	}
	if f, ok := r.fileOf(name); ok {
		if req.Method == http.MethodGet && bootfile.FromStart(req) {
			r.saw(api.RelayFetched{At: r.o.Now(), Addr: who.machine.Addr(), File: f.Name, By: "HTTP"})
		}
		w.Header().Set("Cache-Control", "no-cache")
		r.sendBlob(w, req, blob{wholeFile, f.SHA256}, f.Size, r.link.file(f.Name))
		return
	}
	r.passOn(w, req, name, who)
}

// survive keeps the listener alive when a handler panics.
func (r *Relay) survive(w http.ResponseWriter, req *http.Request) {
	switch p := recover(); p {
	case nil:
	case http.ErrAbortHandler:
		panic(p)
	default:
		r.tally.panics.Add(1)
		r.o.Log.ErrorContext(req.Context(), "request handler panicked", "path", req.URL.Path, "err", p, "stack", string(debug.Stack()))
		http.Error(w, "internal error", http.StatusInternalServerError)
	}
}

// speakerOf says which machine asks, and at which address of ours.
func speakerOf(req *http.Request) (speaker, bool) {
	machine, err := netip.ParseAddrPort(req.RemoteAddr)
	local, ok := req.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if err != nil || !ok {
		return speaker{}, false
	}
	return speaker{netip.AddrPortFrom(machine.Addr().Unmap(), machine.Port()), local.AddrPort().Addr().Unmap()}, true
}

// chunkOf reads "/chunks/<first 4 digits>/<64 hex digits>.cacnk".
func chunkOf(name string) (id string, ok bool) {
	rest, found := strings.CutPrefix(name, api.PathChunks)
	if !found {
		return "", false
	}
	return bootfile.ChunkID(rest)
}

// fileOf finds a boot file by its path, as the server does: below /boot/, and
// loaders in whatever folder firmware and shim look for them.
func (r *Relay) fileOf(name string) (api.RelayFile, bool) {
	k := r.known.Load()
	if k == nil {
		return api.RelayFile{}, false
	}
	if rest, ok := strings.CutPrefix(name, pxe.PathFiles); ok {
		if f, ok := k.files[rest]; ok && !strings.Contains(rest, "/") {
			return f, true
		}
	}
	if f, ok := k.files[path.Base(name)]; ok && pxe.IsLoader(f.Name) {
		return f, true
	}
	return api.RelayFile{}, false
}

// sendBlob answers with content of the cache, whole or the part that was asked
// for, as the server would.
func (r *Relay) sendBlob(w http.ResponseWriter, req *http.Request, b blob, size int64, fetch fetch) {
	f, err := r.cache.get(req.Context(), b, size, fetch)
	if err != nil {
		r.notThere(w, req, err)
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		r.notThere(w, req, err)
		return
	}
	if b.kind == chunk {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	counted := &countedResponse{ResponseWriter: w, n: &r.served}
	bootfile.Serve(counted, req, f, info, `"`+b.id+`"`)
}

// notThere says that something cannot be had: not at all, or not now.
func (r *Relay) notThere(w http.ResponseWriter, req *http.Request, err error) {
	if req.Context().Err() != nil {
		return
	}
	if no, ok := errors.AsType[*refusal](err); ok && no.status/100 == 4 {
		r.tally.notFound.Add(1)
		http.NotFound(w, req)
		return
	}
	r.o.Log.WarnContext(req.Context(), "boot file not served", "path", req.URL.Path, "addr", req.RemoteAddr, "err", err)
	w.Header().Set("Retry-After", "5")
	http.Error(w, "not now", http.StatusServiceUnavailable)
}

// countedResponse counts what leaves, and lets files pass as files.
type countedResponse struct {
	http.ResponseWriter
	n interface{ Add(int64) int64 }
}

func (c *countedResponse) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.n.Add(int64(n))
	return n, err
}

// ReadFrom is what sends files.
func (c *countedResponse) ReadFrom(src io.Reader) (int64, error) {
	n, err := io.Copy(c.ResponseWriter, src)
	c.n.Add(n)
	return n, err
}

// Unwrap is for [http.ResponseController].
func (c *countedResponse) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// answerAlone answers for a server that is away.
func (r *Relay) answerAlone(w http.ResponseWriter, req *http.Request, name string, who speaker) {
	text, err := r.scriptAlone(name, req.URL.Query().Get("mac"), req.URL.Query().Get("platform"), req.URL.Query().Get("arch"), who)
	if err != nil {
		w.Header().Set("Retry-After", "10")
		http.Error(w, "the server is away", http.StatusServiceUnavailable)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(text)))
	h.Set("Cache-Control", "no-store")
	if req.Method == http.MethodGet {
		_, _ = w.Write(text)
	}
	r.o.Log.InfoContext(req.Context(), "script given while the server is away", "addr", who.machine.Addr(), "path", name)
}

// scriptAlone is the script for a machine, as far as it can be told without
// the server: a node that has a system boots it, everybody else waits.
func (r *Relay) scriptAlone(name, said, platform, arch string, who speaker) ([]byte, error) {
	k := r.known.Load()
	if k == nil || r.removed.Load() {
		return nil, errors.New("nothing is known")
	}
	ask := pxe.Request{
		Firmware: pxe.IPXE, Addr: who.machine.Addr(), Server: who.local, Port: k.said.BootPort, Arch: pxe.BIOS,
	}
	switch {
	case platform == "efi" && arch == "arm64":
		ask.Arch = pxe.EFIARM64
	case platform == "efi":
		ask.Arch = pxe.EFIX64
	}
	switch {
	case path.Base(name) == autoexec:
		return r.scripts.AutoExec(ask.BaseURL(), pxe.PathScript)
	case name != pxe.PathScript:
		return nil, errors.New("not a script")
	}
	node, known := k.byAddr[ask.Addr]
	mac, err := fleet.ParseMAC(said)
	if known {
		ask.MAC = node.MAC
	} else if err == nil {
		ask.MAC = mac // nobody's address: it is told to wait, by its name
	}
	if plan := pxe.Decide(ask, node); known && plan.File == pxe.ScriptLocal {
		return r.scripts.Local(node.Title(), menuURL(ask))
	}
	title := string(ask.MAC)
	if known {
		title = node.Title()
	}
	if title == "" {
		title = "this machine"
	}
	return r.scripts.Away(title, ask.BaseURL(), pxe.PathScript)
}

// menuURL is where the menu of a machine is, when the server is there.
func menuURL(r pxe.Request) string {
	return r.BaseURL() + pxe.PathScript + "?mac=" + strings.ReplaceAll(string(r.MAC), ":", "-")
}
