package access

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/rackstage/provision/fleet"
)

const relayLife = 90 * 24 * time.Hour // it renews by itself

// SignRelay returns a PEM certificate for a relay, and the hash of its key.
func (a *Authority) SignRelay(csrPEM []byte, name string) (cert []byte, key [32]byte, err error) {
	csr, err := parseCSR(csrPEM)
	if err != nil {
		return nil, key, &fleet.Error{Kind: fleet.Invalid, Code: "E-CSR", Op: "read certificate request", On: "relay " + name, Err: err}
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "relay " + name},
		URIs:        []*url.URL{{Scheme: uriScheme, Host: "relay", Path: "/" + name}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := a.relay.issue(template, csr.PublicKey, relayLife)
	if err != nil {
		return nil, key, fmt.Errorf("sign certificate of relay %s: %w", name, err)
	}
	return certPEM(der), sha256.Sum256(csr.RawSubjectPublicKeyInfo), nil
}

// identifyRelay returns the name in a relay's certificate, and its key's hash.
func (a *Authority) identifyRelay(chain []*x509.Certificate) (name string, key [32]byte, err error) {
	if len(chain) == 0 || !a.relay.issued(chain[0]) {
		return "", key, errors.New("no certificate of a relay, or it has expired")
	}
	leaf := chain[0]
	if len(leaf.URIs) != 1 || leaf.URIs[0].Scheme != uriScheme || leaf.URIs[0].Host != "relay" || len(leaf.URIs[0].Path) < 2 {
		return "", key, errors.New("its certificate names no relay")
	}
	return leaf.URIs[0].Path[1:], sha256.Sum256(leaf.RawSubjectPublicKeyInfo), nil
}
