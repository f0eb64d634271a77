package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"

	"github.com/rackstage/provision/agent/chunk"
	"github.com/rackstage/provision/agent/disk"
	"github.com/rackstage/provision/api"
)

type feedArgs struct {
	Dir  string // where the server put keys and certificates
	Node int
}

// feedMemory is what a node with 1 GiB keeps for others.
const feedMemory = 64 << 20

// feedLoad is one node that writes the image.
func feedLoad(ctx context.Context, raw json.RawMessage) (any, error) {
	var a feedArgs
	if err := json.Unmarshal(raw, &a); err != nil {
		return nil, err
	}
	client, err := feedClient(a)
	if err != nil {
		return nil, err
	}
	defer client.CloseIdleConnections()
	base := "https://" + dhcpServerAddr.Addr().String() + ":8443"
	var index api.ImageIndex
	if err := call(ctx, client, http.MethodGet, base+api.PathImage+feedImage, nil, &index); err != nil {
		return nil, fmt.Errorf("fetch index: %w", err)
	}
	tell := func(ctx context.Context, in api.RackRequest) (reply api.RackReply, err error) {
		return reply, call(ctx, client, http.MethodPost, base+api.PathRack, in, &reply)
	}
	log := slog.New(slog.DiscardHandler)
	chunks := chunk.New([]string{"http://" + dhcpServerAddr.Addr().String() + api.PathChunks}, 4, nil)
	defer chunks.Close()
	rack := chunk.NewRack(chunks, index, feedMemory)
	defer rack.Share(ctx, index.Digest, tell, log).Leave() //nolint:contextcheck // the server is told after the end too
	w := disk.Writer{Target: &forgetful{size: index.Size + 1<<20}, Chunks: rack, Workers: 4}
	err = w.Write(ctx, index)
	return rack.Stats(), err
}

func feedClient(a feedArgs) (*http.Client, error) {
	file := func(name string) string { return filepath.Join(a.Dir, name) }
	cert, err := tls.LoadX509KeyPair(file(fmt.Sprint("node", a.Node, ".crt")), file(fmt.Sprint("node", a.Node, ".key")))
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(file("ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{cert}}}}, nil
}

func call(ctx context.Context, c *http.Client, method, url string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() // read to its end
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("answered %s: %.200s", resp.Status, text)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(text, out)
}

// A forgetful disk keeps its first MiB, which the writer reads back.
type forgetful struct {
	size int64
	head [1 << 20]byte
}

func (d *forgetful) ReadAt(p []byte, off int64) (int, error) {
	if off != 0 || len(p) > len(d.head) {
		return 0, fmt.Errorf("read of %d bytes at %d: forgotten", len(p), off)
	}
	return copy(p, d.head[:]), nil
}

func (d *forgetful) WriteAt(p []byte, off int64) (int, error) {
	if off < int64(len(d.head)) {
		copy(d.head[off:], p)
	}
	return len(p), nil
}

func (d *forgetful) Zero(int64, int64) error { return nil }
func (d *forgetful) Sync() error             { return nil }
func (d *forgetful) Size() int64             { return d.size }
