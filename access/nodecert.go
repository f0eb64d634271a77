package access

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/rackstage/provision/fleet"
)

const (
	bootLife  = 24 * time.Hour // longer than any install
	stageLife = 90 * 24 * time.Hour

	maxCSR = 16 << 10
)

// SignBoot returns a PEM certificate for a machine in the ramdisk. It says
// who the machine is, and gives it no stage.
func (a *Authority) SignBoot(csrPEM []byte, node fleet.NodeID) ([]byte, error) {
	return a.boot.signNode(csrPEM, node, bootLife)
}

// SignStage returns a PEM certificate for a node of a stage.
func (a *Authority) SignStage(csrPEM []byte, node fleet.NodeID, stage fleet.StageName) ([]byte, error) {
	c, err := a.stage(stage)
	if err != nil {
		return nil, err
	}
	return c.signNode(csrPEM, node, stageLife)
}

func (c *ca) signNode(csrPEM []byte, node fleet.NodeID, life time.Duration) ([]byte, error) {
	if !fleet.ValidName(string(node)) {
		return nil, fleet.Invalidf(fmt.Sprintf("node %.80q", node), "", errors.New("not a node's ID"))
	}
	csr, err := parseCSR(csrPEM)
	if err != nil {
		return nil, &fleet.Error{Kind: fleet.Invalid, Code: "E-CSR", Op: "read certificate request", On: "node " + string(node), Err: err}
	}
	// Nothing but the key is taken from the request.
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: string(node)},
		URIs:        []*url.URL{nodeURI(node)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := c.issue(template, csr.PublicKey, life)
	if err != nil {
		return nil, fmt.Errorf("sign certificate of node %s: %w", node, err)
	}
	return certPEM(der), nil
}

const uriScheme = "provision"

func nodeURI(node fleet.NodeID) *url.URL {
	return &url.URL{Scheme: uriScheme, Host: "node", Path: "/" + string(node)}
}

// parseCSR reads a request and checks that whoever made it has the key.
func parseCSR(raw []byte) (*x509.CertificateRequest, error) {
	if len(raw) > maxCSR {
		return nil, fmt.Errorf("%d bytes", len(raw))
	}
	block, _ := pem.Decode(raw)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("not a PEM certificate request")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	if err := checkKey(csr.PublicKey); err != nil {
		return nil, err
	}
	return csr, csr.CheckSignature()
}

func checkKey(key any) error {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() {
			return errors.New("use curve P-256 or P-384")
		}
	case *rsa.PublicKey:
		// Above 4096 bits a check of a signature costs more than we want to
		// spend on somebody we do not know.
		if bits := k.N.BitLen(); bits < 2048 || bits > 4096 {
			return fmt.Errorf("an RSA key of %d bits; use 2048 to 4096", bits)
		}
	case ed25519.PublicKey:
	default:
		return errors.New("use ECDSA, Ed25519 or RSA")
	}
	return nil
}

// Identify returns the node that a chain of certificates belongs to, leaf
// first, and the stage whose authority issued it: "" for a machine that is
// being installed. It checks the chain itself and by the time that it is now,
// because a connection may be older than its certificate is valid.
func (a *Authority) Identify(chain []*x509.Certificate) (fleet.NodeID, fleet.StageName, error) {
	if len(chain) == 0 {
		return "", "", unidentified(errors.New("no client certificate"))
	}
	stage, ok := a.issuer(chain[0])
	if !ok {
		return "", "", unidentified(errors.New("no authority of ours issued its certificate, or it has expired"))
	}
	node, ok := nodeOf(chain[0])
	if !ok {
		return "", "", unidentified(errors.New("its certificate names no node"))
	}
	return node, stage, nil
}

func (a *Authority) issuer(leaf *x509.Certificate) (fleet.StageName, bool) {
	if a.boot.issued(leaf) {
		return "", true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for name, c := range a.stages {
		if c.issued(leaf) {
			return name, true
		}
	}
	return "", false
}

func nodeOf(leaf *x509.Certificate) (fleet.NodeID, bool) {
	if len(leaf.URIs) != 1 {
		return "", false
	}
	u := leaf.URIs[0]
	if u.Scheme != uriScheme || u.Host != "node" || len(u.Path) < 2 || !fleet.ValidName(u.Path[1:]) {
		return "", false
	}
	return fleet.NodeID(u.Path[1:]), true
}

func unidentified(err error) error {
	return &fleet.Error{Kind: fleet.Denied, Code: "E-NODE-CERT", Op: "identify node", Hint: "restart the machine over the network: it gets a new certificate", Err: err}
}
