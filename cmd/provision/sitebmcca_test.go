package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/fleet"
)

// A bmcAuthority signs certificates of BMCs.
type bmcAuthority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newBMCAuthority(t *testing.T) bmcAuthority {
	t.Helper()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of BMCs"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	var a bmcAuthority
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a bmcAuthority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// sign makes a certificate for the BMC at an address.
func (a bmcAuthority) sign(addr string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "bmc"}, IPAddresses: []net.IP{net.ParseIP(addr)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, key.Public(), a.key)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

const authoritySite = `
stages: [{name: prd}]
profiles: [{name: docker, image: debian-12}]
pools: [{name: prd, stage: prd, profile: docker}]
bmc_ca: [DIR/all.pem]
rules:
  - {name: some, match: {vendor: Contoso}, pool: prd, bmc: {ca: DIR/some.pem}}
  - {name: others, match: {vendor: Acme}, pool: prd}
`

func TestASiteSaysWhoSignsCertificatesOfBMCs(t *testing.T) {
	dir := t.TempDir()
	all, some := newBMCAuthority(t), newBMCAuthority(t)
	leaf, err := all.sign("10.77.1.9")
	if err != nil {
		t.Fatal(err)
	}
	read := func(allText, someText string) (fleet.Site, error) {
		t.Helper()
		for name, text := range map[string]string{"all.pem": allText, "some.pem": someText} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		site, err := ParseSite([]byte(strings.ReplaceAll(authoritySite, "DIR", dir)))
		if err != nil {
			t.Fatal(err)
		}
		return site, readBMCCA(&site)
	}
	site, err := read("for people: BMCs of all racks\n"+string(all.pem()), string(some.pem()))
	if err != nil {
		t.Fatal(err)
	}
	for vendor, want := range map[string]bmcAuthority{"Contoso": some, "Acme": all, "": all} {
		trust := trustOf(site.Authorities(fleet.Node{Inventory: fleet.Inventory{Vendor: vendor}}))
		pool := x509.NewCertPool()
		pool.AddCert(want.cert)
		if trust == nil || !trust.Authorities.Equal(pool) {
			t.Errorf("BMCs of vendor %q have other authorities", vendor)
		}
	}
	if trustOf(fleet.Site{}.Authorities(fleet.Node{})) != nil {
		t.Error("a site without authorities has some")
	}
	key, err := x509.MarshalPKCS8PrivateKey(all.key)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"an empty file":                      "",
		"a file without certificates":        "secret",
		"a file with a key":                  string(all.pem()) + string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})),
		"a certificate that is no authority": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Certificate[0]})),
	} {
		if _, err := read(text, string(some.pem())); fleet.KindOf(err) != fleet.Invalid || !strings.Contains(err.Error(), "bmc_ca[0]") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := read(string(all.pem()), text); fleet.KindOf(err) != fleet.Invalid || !strings.Contains(err.Error(), "rules[0].bmc.ca") {
			t.Errorf("%s of a rule: %v", name, err)
		}
	}
}

func TestAnAuthorityThatMakesNoSenseIsRefused(t *testing.T) {
	for change, want := range map[string]string{
		"bmc_ca: [DIR/all.pem]|bmc_ca: ['']":       "site.yaml:5:10: no file",
		"{ca: DIR/some.pem}|{driver: ipmi, ca: x}": "site.yaml:7:79: driver ipmi shows no certificate",
	} {
		old, fresh, _ := strings.Cut(change, "|")
		_, err := ParseSite([]byte(strings.Replace(authoritySite, old, fresh, 1)))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want trouble with %s", fresh, err, want)
		}
	}
}
