package redfish

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"time"
)

func (s *Service) certificatePath() string {
	return s.managerPath() + "/NetworkProtocol/HTTPS/Certificates/1"
}

func (s *Service) certificateResources() map[string]resource {
	const service = "/redfish/v1/CertificateService"
	const replace = service + "/Actions/CertificateService.ReplaceCertificate"
	const locations = service + "/CertificateLocations"
	collection := s.managerPath() + "/NetworkProtocol/HTTPS/Certificates"
	return map[string]resource{
		service: {get: func(*http.Request) (object, error) {
			return item(service, "CertificateService.v1_0_5.CertificateService", "CertificateService", "Certificate Service", object{
				"CertificateLocations": link(locations), "Actions": object{"#CertificateService.ReplaceCertificate": object{"target": replace}},
			}), nil
		}},
		replace: {post: s.replaceCertificate},
		locations: {get: func(*http.Request) (object, error) {
			return item(locations, "CertificateLocations.v1_0_3.CertificateLocations", "CertificateLocations", "Certificate Locations", object{
				"Links": object{"Certificates": links([]string{s.certificatePath()})},
			}), nil
		}},
		collection: {get: func(*http.Request) (object, error) {
			return list(collection, "CertificateCollection", "Certificates", []string{s.certificatePath()}), nil
		}},
		s.certificatePath(): {get: s.showCertificate},
	}
}

func (s *Service) showCertificate(r *http.Request) (object, error) {
	leaf := s.Leaf()
	if leaf == nil {
		return nil, notFound(r.URL.Path)
	}
	return item(s.certificatePath(), "Certificate.v1_8_1.Certificate", "1", "HTTPS Certificate", object{
		"CertificateType": "PEM", "CertificateString": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw})),
		"ValidNotBefore": leaf.NotBefore.Format(time.RFC3339), "ValidNotAfter": leaf.NotAfter.Format(time.RFC3339),
		"Subject": object{"CommonName": leaf.Subject.CommonName}, "Issuer": object{"CommonName": leaf.Issuer.CommonName},
	}), nil
}

func (s *Service) replaceCertificate(w http.ResponseWriter, _ *http.Request, in object) error {
	both := []byte(text(in, "CertificateString"))
	cert, err := tls.X509KeyPair(both, both)
	if err != nil {
		return refuse(http.StatusBadRequest, "ActionParameterValueFormatError", "The certificate cannot be used: "+err.Error())
	}
	s.SetCertificate(cert)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// SetCertificate changes the certificate for the connections to come.
func (s *Service) SetCertificate(c tls.Certificate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaf = &c
}

// Leaf returns the certificate, nil when nobody listens.
func (s *Service) Leaf() *x509.Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaf == nil || len(s.leaf.Certificate) == 0 {
		return nil
	}
	leaf, err := x509.ParseCertificate(s.leaf.Certificate[0])
	if err != nil {
		return nil
	}
	return leaf
}

// Certificate makes a certificate that is signed by itself, for an address or
// a name.
func Certificate(host string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 64))
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make serial number: %w", err)
	}
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: host, Organization: []string{"BMC"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	if ip := net.ParseIP(host); ip != nil {
		c.IPAddresses = []net.IP{ip}
	} else {
		c.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("sign certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// EncodePEM returns certificate and key as one file has them.
func EncodePEM(c tls.Certificate) ([]byte, error) {
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	var b bytes.Buffer
	for _, der := range c.Certificate {
		if err := pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
			return nil, fmt.Errorf("encode certificate: %w", err)
		}
	}
	if err := pem.Encode(&b, &pem.Block{Type: "PRIVATE KEY", Bytes: key}); err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return b.Bytes(), nil
}
