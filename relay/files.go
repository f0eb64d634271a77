package relay

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"path"
	"strings"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/pxe"
	"github.com/rackstage/provision/pxe/tftp"
)

func (r *Relay) serveTFTP(ctx context.Context, c net.PacketConn) error {
	local := c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap() //nolint:forcetypeassert // tftp.Listen's
	server, err := tftp.New(tftp.Options{
		Log: r.o.Log, SinglePort: r.known.Load().said.OnePort,
		MaxBlock: func(client netip.Addr) int { return r.maxBlock(ctx, speaker{netip.AddrPortFrom(client, 0), local}) },
		Open: func(ctx context.Context, name string, client netip.AddrPort) (io.ReadCloser, int64, error) {
			return r.openTFTP(ctx, name, speaker{client, local})
		},
		Serves:    func(client netip.Addr) bool { return r.known.Load().isOnSubnet(client) },
		Strangers: &r.strangers,
		Done: func(t tftp.Transfer) {
			r.served.Add(t.Sent)
			r.slow.Done(t)
			r.sawTransfer(t)
		},
	})
	if err != nil {
		return err
	}
	defer r.tally.opened(server)()
	return server.Serve(ctx, c)
}

// maxAnswer bounds what the server makes for a machine that asks by TFTP.
const maxAnswer = 1 << 20

// openTFTP opens what a machine asks for by TFTP: a boot file from the cache,
// or what the server makes for this machine.
func (r *Relay) openTFTP(ctx context.Context, name string, who speaker) (io.ReadCloser, int64, error) {
	k := r.known.Load()
	if k == nil {
		return nil, 0, fs.ErrNotExist
	}
	if f, ok := k.files[path.Base(name)]; ok && !pxe.OfOnePi(name) {
		if !r.slow.May(who.machine.Addr(), f.Size, r.o.Now()) {
			return nil, 0, tftp.ErrNotByTFTP
		}
		return r.openFile(ctx, f)
	}
	text, err := r.madeFor(ctx, name, who)
	if err == nil {
		if strings.HasPrefix(path.Base(name), "grub.cfg") {
			r.slow.Add(who.machine.Addr(), r.o.Now()) // a GRUB that has no HTTP
		}
		return io.NopCloser(bytes.NewReader(text)), int64(len(text)), nil
	}
	if pi, ok := pxe.PiFile(name); ok {
		if f, ok := k.files[pi]; ok {
			return r.openFile(ctx, f)
		}
	}
	return nil, 0, fs.ErrNotExist
}

// maxBlock asks for the largest block that a machine gets on with; 0 is any.
func (r *Relay) maxBlock(ctx context.Context, who speaker) int {
	if r.away.Load() {
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	res, err := r.link.ask(ctx, http.MethodGet, api.PathRelayQuirk, who, nil)
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	var q api.RelayQuirk
	if res.StatusCode != http.StatusOK || json.NewDecoder(io.LimitReader(res.Body, 1<<16)).Decode(&q) != nil {
		return 0
	}
	return q.BlockSize
}

func (r *Relay) openFile(ctx context.Context, f api.RelayFile) (io.ReadCloser, int64, error) {
	file, err := r.cache.get(ctx, blob{wholeFile, f.SHA256}, f.Size, r.link.file(f.Name))
	if err != nil {
		r.o.Log.WarnContext(ctx, "boot file not served", "file", f.Name, "err", err)
		return nil, 0, err
	}
	return file, f.Size, nil
}

// madeFor is a small file that the server makes for a machine: a script.
func (r *Relay) madeFor(ctx context.Context, name string, who speaker) ([]byte, error) {
	if r.away.Load() {
		return r.scriptAlone("/"+name, "", "", "", who)
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	res, err := r.link.ask(ctx, http.MethodGet, api.PathRelayTFTP+escapePath(name), who, nil)
	if err != nil {
		return r.scriptAlone("/"+name, "", "", "", who)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, refused(res)
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil || len(text) > maxAnswer {
		return nil, fs.ErrNotExist
	}
	return text, nil
}
