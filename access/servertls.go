package access

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const serverLife = 90 * 24 * time.Hour

// ServerTLS returns the configuration of a server that is known by these
// names and addresses. Its certificate is made anew before it expires. A
// client may show a certificate; whether it has to is for the route to say.
// Stages that come later are known to it too.
//
// Sessions are not resumed: a resumed one could outlive its certificate.
func (a *Authority) ServerTLS(names []string, ips []netip.Addr) (*tls.Config, error) {
	leaf := &serverLeaf{ca: a.server, names: names, newKey: newP256}
	for _, ip := range ips {
		leaf.ips = append(leaf.ips, net.IP(ip.Unmap().AsSlice()))
	}
	if _, err := leaf.get(nil); err != nil {
		return nil, err
	}
	base := &tls.Config{
		MinVersion:             tls.VersionTLS12, // iPXE and curl of old rescue systems
		NextProtos:             []string{"h2", "http/1.1"},
		GetCertificate:         leaf.get,
		ClientAuth:             tls.VerifyClientCertIfGiven,
		ClientCAs:              a.ClientCAs(),
		SessionTicketsDisabled: true,
	}
	base.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		now := base.Clone()
		now.GetConfigForClient = nil
		now.ClientCAs = a.ClientCAs()
		return now, nil
	}
	return base, nil
}

// A serverLeaf is the server's own certificate. Its key is never stored: a
// new start makes a new one.
//
// A connection may come in on an address that was not known at the start: that
// of a relay, or one that the interface got later. The certificate is made
// anew with that address in it: whoever gets this far was sent there by us.
// When there are too many of them, the one that was not used for longest goes:
// it is learned again with its next connection.
type serverLeaf struct {
	ca     *ca
	names  []string
	newKey func() (private, error)
	usage  x509.KeyUsage // beside signatures

	mu      sync.Mutex
	ips     []net.IP // from the start
	learned []net.IP // last used last
	cert    *tls.Certificate
}

// maxLearned bounds the certificate.
const maxLearned = 256

// get returns the certificate, and makes a new one when a third of its life
// or less is left.
func (l *serverLeaf) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.learn(hello) {
		l.cert = nil
	}
	if l.cert != nil && time.Until(l.cert.Leaf.NotAfter) > serverLife/3 {
		return l.cert, nil
	}
	cert, err := l.make()
	if err != nil {
		return nil, fmt.Errorf("make server certificate: %w", err)
	}
	l.cert = cert
	return cert, nil
}

// learn reports whether a connection came in on an address that is new to us.
func (l *serverLeaf) learn(hello *tls.ClientHelloInfo) bool {
	if hello == nil || hello.Conn == nil {
		return false
	}
	local, ok := hello.Conn.LocalAddr().(*net.TCPAddr)
	if !ok || local.IP == nil || slices.ContainsFunc(l.ips, local.IP.Equal) {
		return false
	}
	at := slices.IndexFunc(l.learned, local.IP.Equal)
	switch {
	case at >= 0:
		l.learned = slices.Delete(l.learned, at, at+1)
	case len(l.learned) >= maxLearned:
		l.learned = slices.Delete(l.learned, 0, 1)
	}
	l.learned = append(l.learned, local.IP)
	return at < 0
}

func (l *serverLeaf) make() (*tls.Certificate, error) {
	key, err := l.newKey()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "provision"},
		DNSNames:    l.names,
		IPAddresses: slices.Concat(l.ips, l.learned),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		KeyUsage:    l.usage,
	}
	der, err := l.ca.issue(template, key.Public(), serverLife)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	// The authority goes with it: a machine knows its fingerprint only.
	return &tls.Certificate{Certificate: [][]byte{der, l.ca.cert.Raw}, PrivateKey: key, Leaf: leaf}, nil
}
