package access

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"testing"

	"github.com/rackstage/provision/fleet"
)

// Whatever a machine sends as a request, it gets a certificate that names it
// and nothing else, or an error.
func FuzzSignBoot(f *testing.F) {
	dir := f.TempDir()
	seal, err := OpenSealer(dir)
	if err != nil {
		f.Fatal(err)
	}
	a, err := OpenAuthority(dir, seal)
	if err != nil {
		f.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"x"}}, key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Add(a.server.cert.Raw)
	f.Add([]byte{0x30, 0x80})
	f.Fuzz(func(t *testing.T, der []byte) {
		raw := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
		cert, err := a.SignBoot(raw, "n-1")
		if err != nil {
			if fleet.CodeOf(err) != "E-CSR" {
				t.Errorf("SignBoot = %v, want E-CSR", err)
			}
			return
		}
		leaf := parse(t, cert)
		node, stage, err := a.Identify([]*x509.Certificate{leaf})
		if node != "n-1" || stage != "" || err != nil || leaf.IsCA || len(leaf.DNSNames) > 0 {
			t.Errorf("it became %q of stage %q, %v: %+v", node, stage, err, leaf.Subject)
		}
	})
}

// Whatever is in a row, nothing opens that was not sealed.
func FuzzOpen(f *testing.F) {
	s, err := OpenSealer(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	sealed, err := s.Seal([]byte("calvin"), "x")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add("s1." + s.keys[0].id + ".")
	f.Fuzz(func(t *testing.T, text string) {
		plain, err := s.Open(text, "y")
		if err == nil || plain != nil {
			t.Errorf("%q opened as %q", text, plain)
		}
	})
}

func FuzzParsePHC(f *testing.F) {
	f.Add(reference)
	f.Add("$argon2id$v=19$m=-1,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
	f.Fuzz(func(t *testing.T, phc string) {
		c, salt, key, err := parsePHC(phc)
		if err != nil {
			return
		}
		if c.memory > maxCost.memory || c.passes > maxCost.passes || c.threads > maxCost.threads || c.passes < 1 || c.threads < 1 || len(salt) < 8 || len(key) < 16 {
			t.Errorf("%q asks for %+v with a salt of %d and a key of %d bytes", phc, c, len(salt), len(key))
		}
	})
}
