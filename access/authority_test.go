package access

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rackstage/provision/fleet"
)

func authority(t *testing.T, dir string) *Authority {
	t.Helper()
	a, err := OpenAuthority(dir, sealer(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func ecKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return key
}

// request returns a certificate request that claims to be all sorts of things.
func request(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:  pkix.Name{CommonName: "n-admin", Organization: []string{"prd"}},
		DNSNames: []string{"provision"},
		URIs:     []*url.URL{nodeURI("n-admin")},
	}, key)
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func parse(t *testing.T, certPEM []byte) *x509.Certificate {
	t.Helper()
	block, rest := pem.Decode(certPEM)
	if block == nil || len(rest) > 0 {
		t.Fatalf("not one PEM block: %q", certPEM)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	must(t, err)
	return cert
}

func TestTheIssuerSaysWhatStageANodeIsOf(t *testing.T) {
	dir := t.TempDir()
	a := authority(t, dir)
	csr := request(t, ecKey(t))
	boot, err := a.SignBoot(csr, "n-1")
	must(t, err)
	dev, err := a.SignStage(csr, "n-2", "dev")
	must(t, err)
	prd, err := a.SignStage(csr, "n-3", "prd")
	must(t, err)
	tests := map[string]struct {
		cert  []byte
		node  fleet.NodeID
		stage fleet.StageName
		life  time.Duration
	}{
		"a booting machine": {boot, "n-1", "", 24 * time.Hour},
		"a node of dev":     {dev, "n-2", "dev", 90 * 24 * time.Hour},
		"a node of prd":     {prd, "n-3", "prd", 90 * 24 * time.Hour},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cert := parse(t, tt.cert)
			for when, a := range map[string]*Authority{"now": a, "after a restart": authority(t, dir)} {
				node, stage, err := a.Identify([]*x509.Certificate{cert})
				if node != tt.node || stage != tt.stage || err != nil {
					t.Errorf("%s: Identify = %q, %q, %v, want %q, %q", when, node, stage, err, tt.node, tt.stage)
				}
			}
			if left := time.Until(cert.NotAfter); left > tt.life || left < tt.life-time.Minute {
				t.Errorf("valid for %v, want %v", left, tt.life)
			}
			if time.Since(cert.NotBefore) < 14*time.Hour {
				t.Error("a machine whose clock keeps local time does not accept it yet")
			}
			if len(cert.DNSNames) > 0 || len(cert.Subject.Organization) > 0 || cert.Subject.CommonName != string(tt.node) || cert.IsCA {
				t.Errorf("something was taken from the request: %v, %v", cert.Subject, cert.DNSNames)
			}
		})
	}
}

func TestAForeignCertificateIsDenied(t *testing.T) {
	a, other := authority(t, t.TempDir()), authority(t, t.TempDir())
	csr := request(t, ecKey(t))
	foreign, err := other.SignStage(csr, "n-1", "prd")
	must(t, err)
	prd, err := a.SignStage(csr, "n-2", "prd")
	must(t, err)
	config, err := a.ServerTLS([]string{"provision"}, nil)
	must(t, err)
	server, err := config.GetCertificate(nil)
	must(t, err)

	tests := map[string][]*x509.Certificate{
		"none":                                   nil,
		"one of another server":                  {parse(t, foreign)},
		"one of another server, ours behind it":  {parse(t, foreign), parse(t, prd)},
		"one that a node signed":                 {signedBy(t, parse(t, prd), ecKey(t), "n-9"), parse(t, prd)},
		"one that looks like ours":               {signedBy(t, a.boot.cert, ecKey(t), "n-9")},
		"one that looks like ours, self-signed":  {lookalike(t, a.stages["prd"].cert)},
		"the server's own":                       {server.Leaf},
		"an authority itself":                    {a.stages["prd"].cert},
		"one of ours that names no node":         {odd(t, a.boot, &url.URL{Scheme: "https", Host: "node", Path: "/n-1"})},
		"one of ours that names two nodes":       {odd(t, a.boot, nodeURI("n-1"), nodeURI("n-2"))},
		"one of ours with a path for a node":     {odd(t, a.boot, nodeURI("../n-1"))},
		"one of ours with a name in the subject": {odd(t, a.boot)},
	}
	for name, chain := range tests {
		t.Run(name, func(t *testing.T) {
			node, stage, err := a.Identify(chain)
			if fleet.CodeOf(err) != "E-NODE-CERT" || fleet.KindOf(err) != fleet.Denied || node != "" || stage != "" {
				t.Errorf("Identify = %q, %q, %v, want E-NODE-CERT", node, stage, err)
			}
		})
	}
}

func template(uris ...*url.URL) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "n-1"}, URIs: uris,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
}

// signedBy returns a certificate with parent's name as issuer, signed with
// another key.
func signedBy(t *testing.T, parent *x509.Certificate, key *ecdsa.PrivateKey, node fleet.NodeID) *x509.Certificate {
	t.Helper()
	p := *parent
	p.PublicKey = key.Public()
	der, err := x509.CreateCertificate(rand.Reader, template(nodeURI(node)), &p, key.Public(), key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return cert
}

// lookalike returns a self-signed authority with the names and key IDs of ours.
func lookalike(t *testing.T, ours *x509.Certificate) *x509.Certificate {
	t.Helper()
	like := template(nodeURI("n-9"))
	like.Subject, like.SubjectKeyId, like.AuthorityKeyId = ours.Subject, ours.SubjectKeyId, ours.SubjectKeyId
	like.IsCA, like.BasicConstraintsValid = true, true
	key := ecKey(t)
	der, err := x509.CreateCertificate(rand.Reader, like, like, key.Public(), key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return cert
}

func odd(t *testing.T, c *ca, uris ...*url.URL) *x509.Certificate {
	t.Helper()
	der, err := c.issue(template(uris...), ecKey(t).Public(), time.Hour)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return cert
}

func TestAnExpiredCertificateIsDenied(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		a := authority(t, dir)
		boot, err := a.SignBoot(request(t, ecKey(t)), "n-1")
		must(t, err)
		chain := []*x509.Certificate{parse(t, boot)}
		wait(24*time.Hour - time.Minute)
		if _, _, err := a.Identify(chain); err != nil {
			t.Errorf("a minute before: %v", err)
		}
		wait(2 * time.Minute)
		if _, _, err := a.Identify(chain); fleet.CodeOf(err) != "E-NODE-CERT" {
			t.Errorf("a minute after: %v, want E-NODE-CERT", err)
		}
	})
}

func TestRequestsAreChecked(t *testing.T) {
	a := authority(t, t.TempDir())
	key := ecKey(t)
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	must(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(t, err)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	rsa2048, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	rsa1024 := weakRSA(t)
	good := request(t, key)
	block, _ := pem.Decode(good)
	stolen := append([]byte(nil), block.Bytes...)
	stolen[len(stolen)-1] ^= 1 // the signature is its end
	tests := map[string]struct {
		csr  []byte
		good bool
	}{
		"P-256":                        {good, true},
		"P-384":                        {request(t, p384), true},
		"Ed25519":                      {request(t, ed), true},
		"RSA of 2048 bits":             {request(t, rsa2048), true},
		"RSA of 1024 bits":             {request(t, rsa1024), false},
		"P-224":                        {request(t, p224), false},
		"somebody else's key":          {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: stolen}), false},
		"a certificate":                {a.CAPEM(), false},
		"nothing":                      {nil, false},
		"garbage":                      {[]byte("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"), false},
		"more than anybody has to say": {append(make([]byte, maxCSR), good...), false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := a.SignBoot(tt.csr, "n-1")
			if tt.good {
				if err != nil {
					t.Errorf("SignBoot: %v", err)
				}
				return
			}
			if fleet.CodeOf(err) != "E-CSR" || fleet.KindOf(err) != fleet.Invalid || got != nil {
				t.Errorf("SignBoot = %q, %v, want E-CSR", got, err)
			}
		})
	}
}

// weakRSA returns a key that Go itself no longer makes.
func weakRSA(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	t.Setenv("GODEBUG", "rsa1024min=0")
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	must(t, err)
	return key
}

func TestAStageOrNodeCannotBeAPath(t *testing.T) {
	dir := t.TempDir()
	a := authority(t, dir)
	csr := request(t, ecKey(t))
	before := files(t, dir)
	for _, name := range []string{"", "..", "../x", "a/b", "a b", "PRD", strings.Repeat("x", 64), "x\x00"} {
		if _, err := a.SignStage(csr, "n-1", fleet.StageName(name)); fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("stage %q: %v, want an Invalid error", name, err)
		}
		if _, err := a.SignBoot(csr, fleet.NodeID(name)); fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("node %q: %v, want an Invalid error", name, err)
		}
	}
	if after := files(t, dir); after != before {
		t.Errorf("files %s, before %s", after, before)
	}
}

func files(t *testing.T, dir string) string {
	t.Helper()
	list, err := os.ReadDir(dir)
	must(t, err)
	var names []string
	for _, f := range list {
		names = append(names, f.Name())
	}
	return strings.Join(names, " ")
}

func TestNobodyElseCanReadAKey(t *testing.T) {
	dir := t.TempDir()
	a := authority(t, dir)
	_, err := a.SignStage(request(t, ecKey(t)), "n-1", "server") // must not collide with the server's own
	must(t, err)
	if got, want := files(t, dir), "boot.ca relay.ca seal.key server.ca stage-server.ca"; got != want {
		t.Fatalf("files %s, want %s", got, want)
	}
	for name := range strings.FieldsSeq(files(t, dir)) {
		info, err := os.Stat(filepath.Join(dir, name))
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode().Perm())
		}
		raw, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		if strings.Contains(string(raw), "PRIVATE KEY") {
			t.Errorf("%s holds a key that is not sealed", name)
		}
	}
}

func TestALostOrDamagedAuthorityIsNotMadeAnew(t *testing.T) {
	swap := func(t *testing.T, dir string) {
		must(t, os.Rename(filepath.Join(dir, "boot.ca"), filepath.Join(dir, "x")))
		must(t, os.Rename(filepath.Join(dir, "stage-prd.ca"), filepath.Join(dir, "boot.ca")))
		must(t, os.Rename(filepath.Join(dir, "x"), filepath.Join(dir, "stage-prd.ca")))
	}
	tests := map[string]func(t *testing.T, dir string){
		"when the server's is gone":  func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "server.ca"))) },
		"when it is cut":             func(t *testing.T, dir string) { must(t, os.Truncate(filepath.Join(dir, "server.ca"), 300)) },
		"when it is empty":           func(t *testing.T, dir string) { must(t, os.Truncate(filepath.Join(dir, "stage-prd.ca"), 0)) },
		"when others may read it":    func(t *testing.T, dir string) { must(t, os.Chmod(filepath.Join(dir, "boot.ca"), 0o644)) },
		"when two were exchanged":    swap,
		"when it is of another seal": func(t *testing.T, dir string) { foreignSeal(t, dir) },
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			a := authority(t, dir)
			_, err := a.SignStage(request(t, ecKey(t)), "n-1", "prd")
			must(t, err)
			spoil(t, dir)
			_, err = OpenAuthority(dir, sealer(t, dir))
			if fleet.CodeOf(err) != "E-KEY" || fleet.HintOf(err) == "" {
				t.Errorf("OpenAuthority = %v, hint %q, want E-KEY and what to do", err, fleet.HintOf(err))
			}
		})
	}
}

func foreignSeal(t *testing.T, dir string) {
	t.Helper()
	other := t.TempDir()
	sealer(t, other)
	raw, err := os.ReadFile(filepath.Join(other, sealFile))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, sealFile), raw, 0o600))
}

func TestTheFingerprintIsThatOfTheCertificate(t *testing.T) {
	dir := t.TempDir()
	a := authority(t, dir)
	sum := sha256.Sum256(parse(t, a.CAPEM()).Raw)
	if want := "sha256:" + hex.EncodeToString(sum[:]); a.Fingerprint() != want {
		t.Errorf("Fingerprint = %s, want %s", a.Fingerprint(), want)
	}
	if again := authority(t, dir); again.Fingerprint() != a.Fingerprint() {
		t.Error("it is another one after a restart")
	}
}

func BenchmarkIdentify(b *testing.B) {
	dir := b.TempDir()
	seal, err := OpenSealer(dir)
	if err != nil {
		b.Fatal(err)
	}
	a, err := OpenAuthority(dir, seal)
	if err != nil {
		b.Fatal(err)
	}
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	der, _ := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	cert, err := a.SignStage(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), "n-1", "prd")
	if err != nil {
		b.Fatal(err)
	}
	block, _ := pem.Decode(cert)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, _, err := a.Identify([]*x509.Certificate{leaf}); err != nil {
			b.Fatal(err)
		}
	}
}
