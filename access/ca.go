package access

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"
)

const (
	caSuffix    = ".ca" // PEM: the certificate and the sealed private key
	certBlock   = "CERTIFICATE"
	sealedBlock = "PROVISION SEALED KEY"
	caLife      = 10 * 365 * 24 * time.Hour

	// backdate is how long before its making a certificate is valid. Servers
	// keep local time in their clocks, up to 14 hours ahead of or behind ours,
	// and check our certificate before they have asked anybody for the time.
	backdate = 24 * time.Hour
)

// A ca is one certificate authority: self-signed, ECDSA P-256 but for that of
// firmware.
type ca struct {
	cert *x509.Certificate
	key  crypto.Signer
	pool *x509.CertPool // with nothing else in it
}

// loadCA reads an authority from a directory, and makes it when there is
// none. Certificate and key are in one file, so that there is never a half.
func loadCA(dir, name, title string, usage x509.ExtKeyUsage, seal *Sealer) (*ca, error) {
	return loadCAWith(newP256, dir, name, title, usage, seal)
}

// A private key can say what its public one is, as those of the standard
// library can.
type private interface {
	crypto.Signer
	Equal(other crypto.PrivateKey) bool
}

func newP256() (private, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

func loadCAWith(newKey func() (private, error), dir, name, title string, usage x509.ExtKeyUsage, seal *Sealer) (*ca, error) {
	file := filepath.Join(dir, name+caSuffix)
	raw, err := readPrivate(file)
	if errors.Is(err, fs.ErrNotExist) {
		return makeCA(newKey, file, name, title, usage, seal)
	}
	if err != nil {
		return nil, err
	}
	c, err := parseCA(raw, name, seal)
	if err != nil {
		return nil, keyFault(file, "put the keys back from your backup", err)
	}
	return c, nil
}

func parseCA(raw []byte, name string, seal *Sealer) (*ca, error) {
	certificate, rest := pem.Decode(raw)
	sealed, _ := pem.Decode(rest)
	if certificate == nil || certificate.Type != certBlock || sealed == nil || sealed.Type != sealedBlock {
		return nil, errors.New("not a certificate and its key")
	}
	cert, err := x509.ParseCertificate(certificate.Bytes)
	if err != nil {
		return nil, err
	}
	der, err := seal.Open(string(sealed.Bytes), caContext(name))
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("the private key is damaged")
	}
	signer, ok := key.(private)
	if !ok {
		return nil, errors.New("not a private key that signs")
	}
	public, ok := signer.Public().(interface {
		Equal(other crypto.PublicKey) bool
	})
	if !ok || !public.Equal(cert.PublicKey) {
		return nil, errors.New("certificate and private key do not belong together")
	}
	return newCA(cert, signer), nil
}

func caContext(name string) string { return "certificate authority " + name }

func newCA(cert *x509.Certificate, key crypto.Signer) *ca {
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &ca{cert: cert, key: key, pool: pool}
}

func makeCA(newKey func() (private, error), file, name, title string, usage x509.ExtKeyUsage, seal *Sealer) (*ca, error) {
	key, err := newKey()
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", title, err)
	}
	now := time.Now()
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: title, Organization: []string{"provision"}},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(caLife),
		KeyUsage:    x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{usage},
		IsCA:        true, BasicConstraintsValid: true, MaxPathLenZero: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", title, err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", title, err)
	}
	sealed, err := seal.Seal(raw, caContext(name))
	if err != nil {
		return nil, err
	}
	text := append(certPEM(der), pem.EncodeToMemory(&pem.Block{Type: sealedBlock, Bytes: []byte(sealed)})...)
	if err := writePrivate(file, text); err != nil {
		return nil, err
	}
	return parseCA(text, name, seal)
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: certBlock, Bytes: der})
}

// issue signs a leaf. A leaf never outlives its authority.
func (c *ca) issue(template *x509.Certificate, public crypto.PublicKey, life time.Duration) ([]byte, error) {
	now := time.Now()
	template.NotBefore, template.NotAfter = now.Add(-backdate), now.Add(life)
	if template.NotAfter.After(c.cert.NotAfter) {
		template.NotAfter = c.cert.NotAfter
	}
	template.KeyUsage |= x509.KeyUsageDigitalSignature
	template.BasicConstraintsValid = true
	return x509.CreateCertificate(rand.Reader, template, c.cert, public, c.key)
}

// issued reports whether this authority issued a certificate for use by a
// client, and it is valid now.
func (c *ca) issued(cert *x509.Certificate) bool {
	if !bytes.Equal(cert.AuthorityKeyId, c.cert.SubjectKeyId) {
		return false // saves the signature check of all but one authority
	}
	_, err := cert.Verify(x509.VerifyOptions{Roots: c.pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return err == nil
}
