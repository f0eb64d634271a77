package relay

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/http/bootfile"
)

// An identity is who a relay is to its server, as it is kept in the state
// folder.
type identity struct {
	Name        string      `json:"name"`
	Server      string      `json:"server"` // https://HOST:PORT
	Pin         string      `json:"pin"`    // sha256:… of the server's CA
	Certificate string      `json:"certificate"`
	Key         string      `json:"key"`
	At          whereabouts `json:"at,omitzero"`

	dir string

	mu      sync.Mutex // what is in the folder is written by one at a time
	unsaved bool       // it is older than what we know
}

const (
	identityFile = "relay.json"
	snapshotFile = "snapshot.json"
)

// readIdentity returns nil when the relay has not enrolled yet.
func readIdentity(dir string) (*identity, error) {
	id := &identity{dir: dir}
	err := readJSON(filepath.Join(dir, identityFile), id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // there is none, and that is no error
	}
	return id, err
}

// change changes who we are, here and in the state folder. What cannot be kept
// there, since the disk is full, holds here all the same: see [identity.retry].
func (id *identity) change(do func(*identity)) error {
	id.mu.Lock()
	defer id.mu.Unlock()
	do(id)
	err := writeJSON(filepath.Join(id.dir, identityFile), id)
	id.unsaved = err != nil
	return err
}

// retry keeps what could not be kept before.
func (id *identity) retry() error {
	id.mu.Lock()
	unsaved := id.unsaved
	id.mu.Unlock()
	if !unsaved {
		return nil
	}
	return id.change(func(*identity) {})
}

// enrolled reports whether the server has taken us in. Before that there is a
// key at most: whoever asks again with it, because the answer got lost, is let in.
func (id *identity) enrolled() bool { return id != nil && id.Certificate != "" }

// splitToken parts the secret from the fingerprint of the server's CA.
func splitToken(token string) (secret, pin string, err error) {
	secret, digits, ok := strings.Cut(strings.TrimSpace(token), ".")
	if !ok || secret == "" || !bootfile.IsHash(digits) {
		return "", "", &fleet.Error{
			Kind: fleet.Invalid, Op: "read token", Err: errors.New("it is not one of provision relays add"),
			Hint: "copy the whole token into the file, one line",
		}
	}
	return secret, "sha256:" + digits, nil
}

func newKey() (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), err
}

// request is a certificate request for the relay's key.
func (id *identity) request() (string, error) {
	block, _ := pem.Decode([]byte(id.Key))
	if block == nil {
		return "", errors.New("the relay's key is damaged")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return "", fmt.Errorf("read the relay's key: %w", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), err
}

func pairOf(certificate, key string) (*tls.Certificate, error) {
	cert, err := tls.X509KeyPair([]byte(certificate), []byte(key))
	if err != nil {
		return nil, fmt.Errorf("read the relay's certificate: %w", err)
	}
	return &cert, nil
}

// dueForRenewal reports whether less than a third of the certificate's life is
// left.
func dueForRenewal(cert *tls.Certificate, now time.Time) bool {
	life := cert.Leaf.NotAfter.Sub(cert.Leaf.NotBefore)
	return cert.Leaf.NotAfter.Sub(now) < life/3
}

// writeJSON replaces a file in one step, for us alone to read.
func writeJSON(path string, v any) error {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path))
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(f.Name()) // gone already when all went well
	_, err = f.Write(raw)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(f.Name(), path)
}

func readJSON(path string, v any) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return &fleet.Error{
			Kind: fleet.Internal, Op: "read", On: path, Err: err,
			Hint: "remove the folder and enrol again: provision relays remove NAME, provision relays add NAME",
		}
	}
	return nil
}
