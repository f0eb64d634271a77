package agent

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
)

// A Pin is the SHA-256 of the certificate of the server's CA. It came with
// the boot script, or with the seed: it is all that we know of the server.
type Pin [32]byte

// ParsePin reads "sha256:<64 hex digits>".
func ParsePin(s string) (Pin, error) {
	digits, ok := strings.CutPrefix(s, "sha256:")
	raw, err := hex.DecodeString(digits)
	if !ok || err != nil || len(raw) != len(Pin{}) {
		return Pin{}, fmt.Errorf("CA pin %.80q is not sha256: and 64 hex digits", s)
	}
	return Pin(raw), nil
}

// String returns the form that ParsePin reads.
func (p Pin) String() string { return "sha256:" + hex.EncodeToString(p[:]) }

var errPin = errors.New("the server does not show the certificate of the CA that this agent was told: is it another server?")

// verify checks that a chain of certificates leads from a server of that name
// to the pinned CA, at the given time.
func (p Pin) verify(chain []*x509.Certificate, name string, now time.Time) error {
	if len(chain) == 0 {
		return errPin
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	pinned := false
	for _, c := range chain[1:] {
		between.AddCert(c)
		if sha256.Sum256(c.Raw) == p && c.IsCA {
			roots.AddCert(c)
			pinned = true
		}
	}
	if !pinned {
		return errPin
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		DNSName: name, Roots: roots, Intermediates: between, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err
}

// config is for connections to the server of that name. at says for which
// time its certificate is checked, given the chain.
func (p Pin) config(name string, at func([]*x509.Certificate) time.Time) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// The usual check asks the system's CAs, of which there are none; ours is below.
		InsecureSkipVerify: true, // see VerifyConnection
		VerifyConnection: func(cs tls.ConnectionState) error {
			return p.verify(cs.PeerCertificates, name, at(cs.PeerCertificates))
		},
	}
}

// badDates reports whether an error is about nothing but the dates of a
// certificate: then our clock may be wrong.
func badDates(err error) bool {
	invalid, ok := errors.AsType[x509.CertificateInvalidError](err)
	return ok && invalid.Reason == x509.Expired
}
