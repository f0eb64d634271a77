package access

import (
	"bytes"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
)

func TestFirmwareWithoutEllipticCurvesGetsThrough(t *testing.T) {
	dir := t.TempDir()
	a := authority(t, dir)
	config, err := a.BootTLS(nil, []netip.Addr{netip.MustParseAddr("127.0.0.1")})
	must(t, err)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "loader") }))
	srv.Listener, srv.Config.ErrorLog = tls.NewListener(srv.Listener, config), log.New(io.Discard, "", 0)
	srv.Start()
	t.Cleanup(srv.Close)
	der, err := a.FirmwareCA()
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	for name, suites := range map[string][]uint16{
		"RSA alone":    {tls.TLS_RSA_WITH_AES_128_CBC_SHA},
		"newer":        {tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
		"the usual":    nil,
		"RSA with GCM": {tls.TLS_RSA_WITH_AES_256_GCM_SHA384},
	} {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MaxVersion: tls.VersionTLS12, CipherSuites: suites}}}
		res, err := client.Get("https://" + srv.Listener.Addr().String())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if key, ok := res.TLS.PeerCertificates[0].PublicKey.(*rsa.PublicKey); !ok || key.Size()*8 != firmwareBits {
			t.Errorf("%s: the certificate's key is %T", name, res.TLS.PeerCertificates[0].PublicKey)
		}
		_ = res.Body.Close()
		client.CloseIdleConnections()
	}
	again := authority(t, dir)
	kept, err := again.FirmwareCA()
	must(t, err)
	if !bytes.Equal(der, kept) {
		t.Error("the authority that firmware trusts is another one after a restart")
	}
}

func TestASignatureListHoldsTheCertificate(t *testing.T) {
	a := authority(t, t.TempDir())
	der, err := a.FirmwareCA()
	must(t, err)
	list, err := SignatureList(der)
	must(t, err)
	if got := binary.LittleEndian.Uint32(list[16:]); int(got) != len(list) {
		t.Errorf("the list says that it has %d bytes, it has %d", got, len(list))
	}
	if got := binary.LittleEndian.Uint32(list[24:]); int(got) != 16+len(der) {
		t.Errorf("the signature says that it has %d bytes, want %d", got, 16+len(der))
	}
	if !bytes.Equal(list[len(list)-len(der):], der) || !bytes.HasPrefix(list, certX509GUID[:]) {
		t.Error("the list does not hold the certificate")
	}
	if _, err := SignatureList([]byte("no certificate")); err == nil {
		t.Error("a list was made of no certificate")
	}
}
