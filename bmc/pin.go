package bmc

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// A PinError says that a BMC shows another TLS certificate than the one that
// is pinned. Somebody has renewed it, or stands in between.
type PinError struct {
	Want, Got string // hex SHA-256
}

// Error names both, short enough to be compared by eye.
func (e *PinError) Error() string {
	return fmt.Sprintf("%v: pinned %s, shown %s", ErrPin, shortPin(e.Want), shortPin(e.Got))
}

// NewPin is the certificate that is shown.
func (e *PinError) NewPin() string { return e.Got }

// Is makes it an [ErrPin].
func (e *PinError) Is(target error) bool { return target == ErrPin }

func shortPin(p string) string { return p[:min(len(p), 16)] }

// A guardian looks at the TLS certificate of a BMC. BMCs sign their own, so
// what counts is that it is the one that was there when the BMC was enrolled.
type guardian struct {
	pin  string // "": any, for a probe
	seen string

	leaf    *x509.Certificate // that was shown
	version uint16            // of TLS
}

func (g *guardian) config() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // verified below, by the pin
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
	if g.pin != "" && !strings.EqualFold(g.pin, g.seen) {
		return &PinError{Want: g.pin, Got: g.seen}
	}
	return nil
}
