package relay

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"path"
	"regexp"

	"golang.org/x/sync/errgroup"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/pxe"
	"github.com/rackstage/provision/pxe/tftp"
)

func (r *Relay) serveTFTP(ctx context.Context, conns []net.PacketConn) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, c := range conns {
		local := c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap() //nolint:forcetypeassert // tftp.Listen's
		server, err := tftp.New(tftp.Options{
			Log: r.o.Log,
			Open: func(ctx context.Context, name string, client netip.AddrPort) (io.ReadCloser, int64, error) {
				return r.openTFTP(ctx, name, speaker{client, local})
			},
			Done: func(t tftp.Transfer) {
				r.served.Add(t.Sent)
				r.sawTransfer(t)
			},
		})
		if err != nil {
			return err
		}
		group.Go(func() error { return server.Serve(ctx, c) })
	}
	return group.Wait()
}

// maxAnswer bounds what the server makes for a machine that asks by TFTP.
const maxAnswer = 1 << 20

// ofOnePi are the names that one Raspberry Pi asks for before those of all.
var ofOnePi = regexp.MustCompile("^/?[0-9a-f]{8}/")

// openTFTP opens what a machine asks for by TFTP: a boot file from the cache,
// or what the server makes for this machine.
func (r *Relay) openTFTP(ctx context.Context, name string, who speaker) (io.ReadCloser, int64, error) {
	k := r.known.Load()
	if k == nil {
		return nil, 0, fs.ErrNotExist
	}
	if f, ok := k.files[path.Base(name)]; ok && !ofOnePi.MatchString(name) {
		return r.openFile(ctx, f)
	}
	text, err := r.madeFor(ctx, name, who)
	if err == nil {
		return io.NopCloser(bytes.NewReader(text)), int64(len(text)), nil
	}
	if pi, ok := pxe.PiFile(name); ok {
		if f, ok := k.files[pi]; ok {
			return r.openFile(ctx, f)
		}
	}
	return nil, 0, fs.ErrNotExist
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
