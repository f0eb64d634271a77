package agent

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"

	"github.com/rackstage/provision/agent/retry"
	"github.com/rackstage/provision/api"
)

// An identity is a key, and the request for its certificate.
type identity struct {
	keyPEM []byte
	csr    string
}

// newIdentity makes a key and a request for its certificate. The server
// decides what the certificate says.
func newIdentity() (identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return identity{}, fmt.Errorf("make key: %w", err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return identity{}, fmt.Errorf("make key: %w", err)
	}
	csr, err := requestFor(key)
	if err != nil {
		return identity{}, err
	}
	return identity{pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), csr}, nil
}

func requestFor(key any) (string, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return "", fmt.Errorf("make certificate request: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), nil
}

// hello makes this machine a node of the server's. The answer may get lost,
// and the ticket is good for one agent only: the same request, with the same
// key, goes out until there is an answer. An answer that is "no" is final.
func hello(ctx context.Context, c *client, req api.HelloRequest, id identity) (api.HelloReply, error) {
	req.CSR = id.csr
	var delay retry.Delay
	said := false
	for {
		var reply api.HelloReply
		err := c.call(ctx, api.PathHello, req, &reply, oneCall)
		if err == nil {
			return reply, adopt(c, reply.Certificate, id.keyPEM)
		}
		if final(err) || ctx.Err() != nil {
			return api.HelloReply{}, err
		}
		if !said {
			c.log.Warn("server does not answer, trying on", "server", c.server.Host, "err", err)
			said = true
		}
		if err := retry.Pause(ctx, delay.Next()); err != nil {
			return api.HelloReply{}, err
		}
	}
}

// adopt makes the client use a certificate and its key.
func adopt(c *client, certPEM string, keyPEM []byte) error {
	cert, err := tls.X509KeyPair([]byte(certPEM), keyPEM)
	if err != nil {
		return fmt.Errorf("use the certificate that the server sent: %w", err)
	}
	c.use(&cert)
	return nil
}

// final reports whether the server answered and means it: what is wrong with
// the request will be wrong the next time too.
func final(err error) bool {
	p, ok := errors.AsType[*api.Problem](err)
	return ok && p.Status < http.StatusInternalServerError && p.Status != http.StatusTooManyRequests && p.Status != http.StatusRequestTimeout
}

// certify gets a certificate of the node's stage for a key.
func certify(ctx context.Context, c *client, csr string) (api.CertifyReply, error) {
	var reply api.CertifyReply
	var delay retry.Delay
	for {
		err := c.call(ctx, api.PathCertify, api.CertifyRequest{CSR: csr}, &reply, oneCall)
		if err == nil || final(err) || ctx.Err() != nil {
			return reply, err
		}
		if err := retry.Pause(ctx, delay.Next()); err != nil {
			return reply, err
		}
	}
}

// pair puts a renewed certificate to the key that it has to be for.
func pair(certPEM string, key crypto.PrivateKey) (*tls.Certificate, error) {
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("use the certificate that the server sent: %w", err)
	}
	cert, err := tls.X509KeyPair([]byte(certPEM), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
	if err != nil {
		return nil, fmt.Errorf("use the certificate that the server sent: %w", err)
	}
	return &cert, nil
}
