package bmc_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/lab/redfish"
)

// An authority signs certificates of BMCs.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) authority {
	t.Helper()
	key := newKey(t)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().AddDate(-2, 0, 0), NotAfter: time.Now().AddDate(2, 0, 0), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return authority{c, key}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// sign makes a certificate for an address, which is good for a time from now
// on, or until a time that is over.
func (a authority) sign(t *testing.T, addr string, left time.Duration) tls.Certificate {
	t.Helper()
	key := newKey(t)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "bmc"}, IPAddresses: []net.IP{net.ParseIP(addr)},
		NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().Add(left), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

const here = "127.0.0.1"

func TestABMCMayRenewACertificateThatAnAuthorityOfOursSigns(t *testing.T) {
	t.Parallel()
	ours, other := newAuthority(t, "ours"), newAuthority(t, "another")
	own, err := redfish.Certificate(here)
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		shown tls.Certificate
		why   string // "" when it is taken
	}{
		"renewed":             {ours.sign(t, here, time.Hour), ""},
		"expired":             {ours.sign(t, here, -time.Hour), "expired"},
		"of another address":  {ours.sign(t, "127.0.0.2", time.Hour), "127.0.0.2"},
		"of another CA":       {other.sign(t, here, time.Hour), "unknown authority"},
		"signed by the BMC":   {own, "unknown authority"},
		"the one that it had": {tls.Certificate{}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target, s := startRedfish(t, redfish.Options{})
			s.SetCertificate(ours.sign(t, here, time.Hour))
			renewed := ""
			target.Trust = &bmc.Trust{Authorities: ours.pool(), Renewed: func(pin string) { renewed = pin }}
			target = probed(t, target)
			logins := s.Counts().Logins
			if tt.shown.Certificate != nil {
				s.SetCertificate(tt.shown)
			}
			_, err := quick().Power(t.Context(), target)
			if tt.why == "" {
				if err != nil || (renewed != "") != (tt.shown.Certificate != nil) || renewed == target.Pin {
					t.Errorf("Power = %v, told of %q, pinned was %s", err, renewed, target.Pin)
				}
				return
			}
			if !errors.Is(err, bmc.ErrPin) || !strings.Contains(err.Error(), tt.why) || renewed != "" || s.Counts().Logins != logins {
				t.Errorf("Power = %v, told of %q, %+v, want %v because of %q, and nothing sent", err, renewed, s.Counts(), bmc.ErrPin, tt.why)
			}
			change, _ := errors.AsType[*bmc.PinError](err)
			if change == nil || change.NewPin() == "" {
				t.Errorf("what it shows cannot be accepted: %v", err)
			}
		})
	}
}

// What nobody has signed is pinned as ever, with an authority or without, also
// when its time is over.
func TestACertificateThatNobodySignedStaysPinned(t *testing.T) {
	t.Parallel()
	ours := newAuthority(t, "ours")
	first := map[string]func(t *testing.T) tls.Certificate{
		"of the BMC's own": func(t *testing.T) tls.Certificate {
			t.Helper()
			c, err := redfish.Certificate(here)
			if err != nil {
				t.Fatal(err)
			}
			return c
		},
		"expired": func(t *testing.T) tls.Certificate { t.Helper(); return ours.sign(t, here, -time.Hour) },
	}
	for name, make := range first {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target, s := startRedfish(t, redfish.Options{})
			s.SetCertificate(make(t))
			target.Trust = &bmc.Trust{Authorities: ours.pool()}
			target = probed(t, target)
			if _, err := quick().Power(t.Context(), target); err != nil || len(target.Pin) != 64 {
				t.Errorf("with the same certificate: %v, pin %q", err, target.Pin)
			}
			s.SetCertificate(make(t))
			if _, err := quick().Power(t.Context(), target); !errors.Is(err, bmc.ErrPin) {
				t.Errorf("with another: %v, want %v", err, bmc.ErrPin)
			}
		})
	}
}
