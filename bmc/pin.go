package bmc

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/rackstage/provision/fleet"
)

// A Trust is whose signature on a BMC's certificate is enough: such a BMC may
// renew it without a word. It is for all BMCs of a site, or of a rule.
type Trust struct {
	Authorities *x509.CertPool
	// Renewed is told of a certificate that is signed so, and is not the one that
	// was pinned. It is called while the BMC waits. It may be nil.
	Renewed func(pin string)
}

// A PinError says that a BMC shows another TLS certificate than the one that
// is pinned. Somebody has renewed it, or stands in between.
type PinError struct {
	Want, Got string // hex SHA-256
	Unsigned  string // why no authority vouches for it; "" when there is none
}

// Error names both, short enough to be compared by eye.
func (e *PinError) Error() string {
	text := fmt.Sprintf("%v: pinned %s, shown %s", ErrPin, shortPin(e.Want), shortPin(e.Got))
	if e.Unsigned != "" {
		text += ", for which no authority of ours vouches: " + e.Unsigned
	}
	return text
}

// NewPin is the certificate that is shown.
func (e *PinError) NewPin() string { return e.Got }

// Is makes it an [ErrPin].
func (e *PinError) Is(target error) bool { return target == ErrPin }

func shortPin(p string) string { return p[:min(len(p), 16)] }

// A guardian looks at the TLS certificate of a BMC. BMCs sign their own, so
// what counts is that it is the one that was there when the BMC was enrolled;
// or else that an authority which we were told of has signed it, for the very
// address that we speak to.
type guardian struct {
	pin   string // "": any, for a probe
	host  string // that we speak to: address or name
	trust *Trust // nil: nobody's signature counts
	seen  string

	leaf    *x509.Certificate // that was shown
	signed  bool              // by an authority of trust
	version uint16            // of TLS
}

func guardianOf(t Target) guardian {
	host, _, _ := t.at(0, httpsPort) // who has no host is not dialled
	return guardian{pin: t.Pin, host: host, trust: t.Trust}
}

func (g *guardian) config() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // verified below, by the pin or by who has signed it
		VerifyConnection:   g.verify,
	}
}

func (g *guardian) verify(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("the BMC shows no certificate")
	}
	sum := sha256.Sum256(state.PeerCertificates[0].Raw)
	g.seen = hex.EncodeToString(sum[:])
	g.leaf, g.version = state.PeerCertificates[0], state.Version
	unsigned := g.vouched(state.PeerCertificates)
	g.signed = g.trust != nil && unsigned == nil
	if g.pin == "" || strings.EqualFold(g.pin, g.seen) {
		return nil
	}
	if !g.signed {
		e := &PinError{Want: g.pin, Got: g.seen}
		if unsigned != nil {
			e.Unsigned = fleet.CleanText(unsigned.Error())
		}
		return e
	}
	if g.trust.Renewed != nil {
		g.trust.Renewed(g.seen)
	}
	return nil
}

// vouched returns why none of our authorities vouches for a certificate.
func (g *guardian) vouched(shown []*x509.Certificate) error {
	if g.trust == nil {
		return nil
	}
	between := x509.NewCertPool()
	for _, c := range shown[1:] {
		between.AddCert(c)
	}
	_, err := shown[0].Verify(x509.VerifyOptions{Roots: g.trust.Authorities, Intermediates: between, DNSName: g.host})
	return err
}
