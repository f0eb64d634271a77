package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"

	"github.com/rackstage/provision/access"
	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
	httpd "github.com/rackstage/provision/http"
	"github.com/rackstage/provision/image"
)

const feedImage = "debian-12"

// feedServer is the program's HTTP server, for a rack whose nodes are all being
// installed: it stands in for the engine, which would not believe that without
// BMCs, approvals and a run. The certificates of the nodes go to dir.
func feedServer(ctx context.Context, args []string) error {
	if len(args) != 3 {
		return errors.New("usage: benchboot feed-server DIR STATE NODES")
	}
	dir := args[0]
	nodes, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	sealer, err := access.OpenSealer(dir)
	if err != nil {
		return err
	}
	authority, err := access.OpenAuthority(dir, sealer)
	if err != nil {
		return err
	}
	if err := certifyNodes(authority, dir, nodes); err != nil {
		return err
	}
	store, err := image.Open(filepath.Join(args[1], "images"))
	if err != nil {
		return err
	}
	secure, err := authority.ServerTLS(nil, []netip.Addr{dhcpServerAddr.Addr()})
	if err != nil {
		return err
	}
	server, err := httpd.New(httpd.Options{ //nolint:contextcheck // its handlers have the contexts of their requests
		Log: slog.New(slog.DiscardHandler), Engine: installing{}, Authority: authority, Images: feedImages{store}, BootDir: dir, TLS: secure,
	})
	if err != nil {
		return err
	}
	var l httpd.Listeners
	for addr, into := range map[string]*[]net.Listener{":80": &l.Boot, ":8443": &l.TLS} {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		*into = append(*into, listener)
	}
	if err := os.WriteFile(filepath.Join(dir, feedReady), nil, 0o600); err != nil {
		return err
	}
	return server.Run(ctx, l)
}

func certifyNodes(authority *access.Authority, dir string, nodes int) error {
	files := map[string][]byte{"ca.crt": authority.CAPEM()}
	for i := range nodes {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		if err != nil {
			return err
		}
		cert, err := authority.SignBoot(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request}), fleet.NodeID(fmt.Sprintf("n-%010d", i)))
		if err != nil {
			return err
		}
		der, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			return err
		}
		files[fmt.Sprint("node", i, ".crt")] = cert
		files[fmt.Sprint("node", i, ".key")] = pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// installing is an engine of which only two questions are asked.
type installing struct{ httpd.Engine }

// Node says that every node is being installed.
func (installing) Node(ref string) (fleet.Node, error) {
	return fleet.Node{ID: fleet.NodeID(ref), State: fleet.Installing}, nil
}

// Site has one subnet for all.
func (installing) Site() fleet.Site {
	return fleet.Site{Subnets: []fleet.Subnet{{Name: "rack", CIDR: dhcpServerAddr.Masked()}}}
}

// feedImages is the store as package http sees it.
type feedImages struct{ store *image.Store }

// List has no reader here.
func (feedImages) List() ([]api.Image, error) { return nil, nil }

// Index returns the chunks of an image.
func (f feedImages) Index(name string) (api.ImageIndex, error) {
	idx, err := f.store.Index(name)
	if err != nil {
		return api.ImageIndex{}, err
	}
	out := api.ImageIndex{Name: name, Digest: idx.Digest, Size: idx.Size}
	for _, c := range idx.Chunks {
		out.Chunks = append(out.Chunks, api.Chunk{ID: c.ID, Offset: c.Offset, Size: c.Size, Zero: c.Zero})
	}
	return out, nil
}

// ChunkPath returns the file of a chunk.
func (f feedImages) ChunkPath(id string) string {
	p, err := f.store.ChunkPath(id)
	if err != nil {
		return ""
	}
	return p
}
