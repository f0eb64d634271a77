package main

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/fleet"
)

// largestCA bounds a file with certificates of authorities.
const largestCA = 1 << 20

// readBMCCA reads the files with the authorities that have signed certificates
// of BMCs.
func readBMCCA(site *fleet.Site) error {
	read := func(on string, a *fleet.Authority) error {
		if a.File == "" {
			return nil
		}
		raw, err := os.ReadFile(a.File)
		if err == nil && len(raw) > largestCA {
			err = fmt.Errorf("it is longer than %d KiB", largestCA>>10)
		}
		if err == nil {
			raw, err = onlyCertificates(raw)
		}
		if err != nil {
			return fleet.Invalidf(on, "the server reads this file: give the path of one with certificates of authorities in PEM", err)
		}
		a.PEM = string(raw)
		return nil
	}
	for i := range site.BMCCA {
		if err := read(fmt.Sprintf("bmc_ca[%d]", i), &site.BMCCA[i]); err != nil {
			return err
		}
	}
	for i := range site.Rules {
		if err := read(fmt.Sprintf("rules[%d].bmc.ca", i), &site.Rules[i].BMC.CA); err != nil {
			return err
		}
	}
	return nil
}

// onlyCertificates returns the certificates of a file, and nothing else that
// may be in it: what a site says is not kept secret.
func onlyCertificates(raw []byte) (clean []byte, err error) {
	for {
		var block *pem.Block
		if block, raw = pem.Decode(raw); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("there is a %s in it, which does not belong there", fleet.CleanText(block.Type))
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		if !c.IsCA {
			return nil, fmt.Errorf("the certificate of %s is not one of an authority", fleet.CleanText(c.Subject.String()))
		}
		clean = append(clean, pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})...)
	}
	if clean == nil {
		return nil, errors.New("there is no certificate in it")
	}
	return clean, nil
}

// trustOf makes a pool of authorities; nil for none.
func trustOf(authorities []fleet.Authority) *bmc.Trust {
	if len(authorities) == 0 {
		return nil
	}
	pool := x509.NewCertPool()
	for _, a := range authorities {
		pool.AppendCertsFromPEM([]byte(a.PEM))
	}
	return &bmc.Trust{Authorities: pool}
}

// trust is whose signature on the certificate of a node's BMC is enough: nobody's,
// at an address that is not the node's yet. Whoever is there has to show the
// certificate that is known.
func (p bmcPower) trust(n fleet.Node) *bmc.Trust {
	if p.site == nil {
		return nil
	}
	t := trustOf(p.site().Authorities(n))
	if t == nil || p.renew == nil {
		return t
	}
	addr := n.BMC.Address
	if now, err := p.node(string(n.ID)); n.BMC.Pin != "" && (err != nil || now.BMC.Address != addr) {
		return nil
	}
	t.Renewed = func(pin string) {
		_ = p.renew(n.ID, addr, pin) // it will be seen again
	}
	return t
}
