package relay

import (
	"context"
	"maps"
	"net/http"
	"time"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/http/bootfile"
)

// Headers that pass a relay: what a client says about the part of a file that
// it wants, and what the server says about what it sends.
var (
	askingHeaders = []string{"Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"}
	answerHeaders = []string{
		"Content-Type", "Content-Length", "Content-Range", "Accept-Ranges", "ETag", "Last-Modified", "Cache-Control", "Retry-After",
		"X-Content-Type-Options",
	}
)

// passOn asks the server in the machine's name, and passes its answer on as it
// comes: a script, or a private file of any size behind its one-use URL. While
// the server is away, a machine gets what can be said without it.
func (r *Relay) passOn(w http.ResponseWriter, req *http.Request, name string, who speaker) {
	if r.away.Load() {
		r.answerAlone(w, req, name, who)
		return
	}
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	watch := time.AfterFunc(askTime, cancel)
	defer watch.Stop()
	target := api.PathRelayBoot + escapePath(name[1:])
	if req.URL.RawQuery != "" {
		target += "?" + req.URL.RawQuery
	}
	res, err := r.link.ask(ctx, req.Method, target, who, chosen(req.Header, askingHeaders))
	if err != nil {
		r.o.Log.WarnContext(ctx, "server not asked", "path", name, "addr", who.machine, "err", err)
		r.answerAlone(w, req, name, who)
		return
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusNotFound {
		r.tally.notFound.Add(1)
	}
	maps.Copy(w.Header(), chosen(res.Header, answerHeaders))
	w.WriteHeader(res.StatusCode)
	counted := &countedResponse{ResponseWriter: w, n: &r.served}
	if _, err := bootfile.Send(counted, &watched{res.Body, watch}); err != nil {
		r.o.Log.WarnContext(req.Context(), "answer of the server not passed on whole", "path", name, "addr", who.machine, "err", err)
		panic(http.ErrAbortHandler) // so that the machine knows
	}
}

// chosen returns those headers that are named.
func chosen(h http.Header, names []string) http.Header {
	out := http.Header{}
	for _, name := range names {
		if v := h.Values(name); len(v) > 0 {
			out[http.CanonicalHeaderKey(name)] = v
		}
	}
	return out
}
