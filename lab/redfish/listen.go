package redfish

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

// A Server is a service on an address.
type Server struct {
	Service *Service
	l       net.Listener
	http    *http.Server
	served  chan error
}

// Listen serves a service with TLS on an address such as 127.0.0.1:0. When the
// service has no certificate it gets one.
func Listen(ctx context.Context, address string, s *Service) (*Server, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for Redfish: %w", err)
	}
	return Serve(l, s)
}

// Serve is [Listen] for a listener that is open already. It is closed with the
// server.
func Serve(l net.Listener, s *Service) (*Server, error) {
	if s.Leaf() == nil {
		host, _, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		c, err := Certificate(host)
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		s.SetCertificate(c)
	}
	conf := &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"}, // BMCs speak no other
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			return &tls.Config{
				MinVersion: tls.VersionTLS12, MaxVersion: s.faults.version(), NextProtos: []string{"http/1.1"}, Certificates: []tls.Certificate{*s.leaf},
			}, nil
		},
	}
	v := &Server{Service: s, l: l, served: make(chan error, 1)}
	v.http = &http.Server{
		Handler: s, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute,
		ErrorLog: log.New(io.Discard, "", 0), // clients that do not like the certificate, all the time
	}
	go func() { v.served <- v.http.Serve(tls.NewListener(&doorstep{Listener: l, s: s}, conf)) }()
	return v, nil
}

// Addr is where it listens.
func (v *Server) Addr() string { return v.l.Addr().String() }

// Close ends the server, and its service.
func (v *Server) Close() error {
	err := v.http.Close()
	if got := <-v.served; !errors.Is(got, http.ErrServerClosed) {
		err = errors.Join(err, got)
	}
	v.Service.Close()
	return err
}

// A doorstep is where connections stand that a deaf BMC has accepted.
type doorstep struct {
	net.Listener
	s *Service

	mu      sync.Mutex
	waiting []net.Conn
}

const manyWaiting = 1024

// Accept waits for the next connection.
func (d *doorstep) Accept() (net.Conn, error) {
	for {
		c, err := d.Listener.Accept()
		if err != nil || !d.s.Faults().Deaf {
			return c, err
		}
		d.mu.Lock()
		d.waiting = append(d.waiting, c)
		if len(d.waiting) > manyWaiting {
			d.waiting[0].Close()
			d.waiting = d.waiting[1:]
		}
		d.mu.Unlock()
	}
}

// Close closes the door, and lets nobody wait.
func (d *doorstep) Close() error {
	err := d.Listener.Close()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.waiting {
		c.Close()
	}
	d.waiting = nil
	return err
}

// hostOf is the address that a request has come to.
func hostOf(r *http.Request) string {
	if a, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		if host, _, err := net.SplitHostPort(a.String()); err == nil {
			return host
		}
	}
	return "0.0.0.0"
}

// managerMAC makes up the MAC of the BMC with an address.
func managerMAC(host string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(host))
	n := h.Sum32()
	return fmt.Sprintf("02:00:%02x:%02x:%02x:%02x", n>>24&255, n>>16&255, n>>8&255, n&255)
}
