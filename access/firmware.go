package access

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
)

// firmwareCA issues the certificate of the boot listener. It is RSA, apart
// from the server's own: UEFI firmware and older iPXE know no elliptic curves.
const firmwareCA = "firmware"

const firmwareBits = 2048 // 3072 take firmware's own arithmetic half a second longer at each handshake

// FirmwareCA returns the certificate (DER) that firmware has to trust for
// HTTPS boot. The authority is made when it is asked for the first time.
func (a *Authority) FirmwareCA() ([]byte, error) {
	c, err := a.firmware()
	if err != nil {
		return nil, err
	}
	return c.cert.Raw, nil
}

func (a *Authority) firmware() (*ca, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.firm != nil {
		return a.firm, nil
	}
	c, err := loadCAWith(newRSA, a.dir, firmwareCA, "provision boot server", x509.ExtKeyUsageServerAuth, a.seal)
	if err == nil {
		a.firm = c
	}
	return c, err
}

func newRSA() (private, error) { return rsa.GenerateKey(rand.Reader, firmwareBits) }

// BootTLS returns the configuration of a boot listener that is known by these
// names and addresses: what UEFI firmware and iPXE get on with.
func (a *Authority) BootTLS(names []string, ips []netip.Addr) (*tls.Config, error) {
	c, err := a.firmware()
	if err != nil {
		return nil, err
	}
	leaf := &serverLeaf{ca: c, names: names, newKey: newRSA, usage: x509.KeyUsageKeyEncipherment}
	for _, ip := range ips {
		leaf.ips = append(leaf.ips, net.IP(ip.Unmap().AsSlice()))
	}
	if _, err := leaf.get(nil); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, GetCertificate: leaf.get, SessionTicketsDisabled: true,
		CipherSuites: firmwareSuites,
	}, nil
}

// firmwareSuites has beside the usual ones those without elliptic curves: EDK2
// is often built without any.
var firmwareSuites = []uint16{
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_256_CBC_SHA,
}

// SignatureList wraps a certificate (DER) as the EFI_SIGNATURE_LIST that
// firmware takes for its variable TlsCaCertificate (UEFI 2.10 §32.4.1).
func SignatureList(der []byte) ([]byte, error) {
	if _, err := x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("make signature list: %w", err)
	}
	const header, owner = 28, 16
	list := append([]byte(nil), certX509GUID[:]...)
	list = binary.LittleEndian.AppendUint32(list, uint32(header+owner+len(der))) //nolint:gosec // a certificate is small
	list = binary.LittleEndian.AppendUint32(list, 0)                             // no header of its own
	list = binary.LittleEndian.AppendUint32(list, uint32(owner+len(der)))        //nolint:gosec // likewise
	list = append(list, ownerGUID[:]...)
	return append(list, der...), nil
}

var (
	// certX509GUID is EFI_CERT_X509_GUID a5c059a1-94e4-4aa7-87b5-ab155c2bf072.
	certX509GUID = [16]byte{0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72}
	// ownerGUID says who put a signature there: us.
	ownerGUID = [16]byte{0x7a, 0xb0, 0x0d, 0x5e, 0x11, 0x2c, 0x4f, 0x4e, 0x9a, 0x01, 'p', 'r', 'o', 'v', 'i', 's'}
)
