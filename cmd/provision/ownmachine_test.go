package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"regexp"
	"testing"
	"time"

	"github.com/rackstage/provision/api"
)

// An ownMachine is what a machine has when its agent has said hello.
type ownMachine struct {
	id     string
	ticket string
	agent  *http.Client // speaks with the machine's certificate
}

var ticketShape = regexp.MustCompile(`provision\.ticket=(\S+)`)

// boot is a machine that boots: it gets a script, and its agent says hello.
func (s *ownServer) boot(t *testing.T, mac, serial string) ownMachine {
	t.Helper()
	script := s.get(t, s.web(nil), "http://"+s.http+"/boot/ipxe?mac="+mac+"&platform=efi&arch=x86_64")
	ticket := ticketShape.FindStringSubmatch(script)
	if ticket == nil {
		t.Fatalf("no ticket in the script:\n%s", script)
	}
	key, request := newRequest(t)
	var hello api.HelloReply
	s.post(t, s.web(nil), api.PathHello, api.HelloRequest{
		Ticket: ticket[1], BootID: "boot-1", MAC: mac, CSR: request,
		Inventory: api.Inventory{Vendor: "Contoso", Serial: serial, BMC: api.InventoryBMC{Present: true, Address: "127.0.0.1"}},
	}, &hello)
	return ownMachine{id: hello.NodeID, ticket: ticket[1], agent: s.web(certified(hello.Certificate, key))}
}

// newRequest is a key, and the request for a certificate of it.
func newRequest(t *testing.T) (key *ecdsa.PrivateKey, request string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// certified is a key with the certificate that it got.
func certified(certificate string, key *ecdsa.PrivateKey) *tls.Certificate {
	block, _ := pem.Decode([]byte(certificate))
	return &tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: key}
}

// meet has a machine boot, and returns it when its node has its BMC.
func (s *ownServer) meet(t *testing.T, mac, serial, driver string) ownMachine {
	t.Helper()
	m := s.boot(t, mac, serial)
	until(t, 20*time.Second, "the node has its BMC", func(ctx context.Context) (bool, error) {
		n, err := s.client.Node(ctx, m.id)
		return n.Power != nil && n.Power.Driver == driver, err
	})
	return m
}

// post is what an agent says; the answers are for it alone.
func (s *ownServer) post(t *testing.T, c *http.Client, path string, in, out any) {
	t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+s.https+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("POST %s: %s %v %s", path, resp.Status, err, text)
	}
	if err := json.Unmarshal(text, out); err != nil {
		t.Fatal(err)
	}
}
