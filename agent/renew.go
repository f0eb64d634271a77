package agent

import (
	"context"
	"crypto/x509"
	"path/filepath"
	"time"

	"github.com/rackstage/provision/agent/retry"
)

const (
	mostSleep  = 6 * time.Hour // clocks jump, machines sleep
	renewAgain = 5 * time.Minute
)

// renew gets a new certificate when two thirds of the old one's life are over.
// The key stays: two files cannot be replaced at once, and half of a pair is
// worse than an old key.
func (s *service) renew(ctx context.Context) {
	for {
		due := renewAt(s.client.cert.Load().Leaf)
		if wait := time.Until(due); wait > 0 {
			if retry.Pause(ctx, min(wait, mostSleep)) != nil {
				return
			}
			continue
		}
		if err := s.renewOnce(ctx); err != nil {
			s.Log.Warn("certificate not renewed", "err", err, "good_until", s.client.cert.Load().Leaf.NotAfter)
			if retry.Pause(ctx, renewAgain) != nil {
				return
			}
		}
	}
}

func renewAt(c *x509.Certificate) time.Time {
	return c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) * 2 / 3)
}

func (s *service) renewOnce(ctx context.Context) error {
	old := s.client.cert.Load()
	csr, err := requestFor(old.PrivateKey)
	if err != nil {
		return err
	}
	reply, err := certify(ctx, s.client, csr)
	if err != nil {
		return err
	}
	fresh, err := pair(reply.Certificate, old.PrivateKey)
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(s.State, certFile), []byte(reply.Certificate), 0o644); err != nil {
		return err
	}
	s.client.use(fresh)
	s.Log.Info("certificate renewed", "good_until", fresh.Leaf.NotAfter)
	return nil
}
