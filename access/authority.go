package access

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/rackstage/provision/fleet"
)

// An Authority is the certificate authorities of one server: one for the
// server's own certificate, which machines know by its fingerprint; one for
// machines that are being installed; one for relays; and one for each stage.
//
// They are separate so that the issuer alone says what a certificate is good
// for. A node cannot come by another stage's rights, whatever names it gets
// into its certificate.
type Authority struct {
	dir    string
	seal   *Sealer
	server *ca
	boot   *ca
	relay  *ca
	firm   *ca // of HTTPS boot; nil until it is needed

	mu      sync.Mutex // held while an authority is made
	stages  map[fleet.StageName]*ca
	clients atomic.Pointer[x509.CertPool]
}

const (
	serverCA    = "server"
	bootCA      = "boot"
	relayCA     = "relay"
	stagePrefix = "stage-" // so that no stage's name is that of another authority
)

// OpenAuthority reads the authorities in a directory, and makes those of the
// server, of booting machines and of relays when they are not there.
func OpenAuthority(dir string, seal *Sealer) (*Authority, error) {
	a := &Authority{dir: dir, seal: seal, stages: map[fleet.StageName]*ca{}}
	if err := refuseNewServerCA(dir); err != nil {
		return nil, err
	}
	var err error
	if a.server, err = loadCA(dir, serverCA, "provision server", x509.ExtKeyUsageServerAuth, seal); err != nil {
		return nil, err
	}
	if a.boot, err = loadCA(dir, bootCA, "provision boot", x509.ExtKeyUsageClientAuth, seal); err != nil {
		return nil, err
	}
	if a.relay, err = loadCA(dir, relayCA, "provision relay", x509.ExtKeyUsageClientAuth, seal); err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(dir, stagePrefix+"*"+caSuffix))
	if err != nil {
		return nil, keyFault(dir, "", err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(f), stagePrefix), caSuffix)
		if _, err := a.stageLocked(fleet.StageName(name)); err != nil {
			return nil, err
		}
	}
	a.publish()
	return a, nil
}

// refuseNewServerCA keeps a lost file from becoming a new authority, which no
// installed node would know. The server's is the first that is made.
func refuseNewServerCA(dir string) error {
	file := filepath.Join(dir, serverCA+caSuffix)
	others, err := filepath.Glob(filepath.Join(dir, "*"+caSuffix))
	if err != nil || len(others) == 0 || slices.Contains(others, file) {
		return err
	}
	return keyFault(file, "put the keys back from your backup", fmt.Errorf("it is missing, but %s is there", filepath.Base(others[0])))
}

// stage returns the authority of a stage, and makes it the first time.
func (a *Authority) stage(name fleet.StageName) (*ca, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c, ok := a.stages[name]; ok {
		return c, nil
	}
	c, err := a.stageLocked(name)
	if err == nil {
		a.publish()
	}
	return c, err
}

func (a *Authority) stageLocked(name fleet.StageName) (*ca, error) {
	if !fleet.ValidName(string(name)) { // it becomes a file name
		return nil, fleet.Invalidf(fmt.Sprintf("stage %.80q", name), "", errors.New("not a stage's name"))
	}
	c, err := loadCA(a.dir, stagePrefix+string(name), "provision stage "+string(name), x509.ExtKeyUsageClientAuth, a.seal)
	if err != nil {
		return nil, err
	}
	a.stages[name] = c
	return c, nil
}

// publish makes a new pool of those authorities whose certificates clients
// may show. The server's own is not among them.
func (a *Authority) publish() {
	pool := x509.NewCertPool()
	pool.AddCert(a.boot.cert)
	pool.AddCert(a.relay.cert)
	for _, c := range a.stages {
		pool.AddCert(c.cert)
	}
	a.clients.Store(pool)
}

// ClientCAs returns the authorities that clients may come from. There may be
// more of them later; what was returned does not change.
func (a *Authority) ClientCAs() *x509.CertPool { return a.clients.Load() }

// CAPEM returns the certificate that the server's own is issued by.
func (a *Authority) CAPEM() []byte { return certPEM(a.server.cert.Raw) }

// Fingerprint returns "sha256:" and the hex digits of that certificate's
// hash. Machines get it on the kernel command line.
func (a *Authority) Fingerprint() string {
	sum := sha256.Sum256(a.server.cert.Raw)
	return "sha256:" + hex.EncodeToString(sum[:])
}
