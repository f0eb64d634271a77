package access

import (
	"cmp"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/rackstage/provision/fleet"
)

// A Sealer seals secrets that have to be kept, with a key that is kept
// elsewhere than they are.
//
// It is XChaCha20-Poly1305 and not age, because a value has to be bound to
// the place that it is for: a BMC's sealed password that is moved to another
// node's row must not open. That takes authenticated additional data, which
// age does not have. Its nonces are 192 bits long and can be random.
type Sealer struct {
	file  string // that new keys are added to
	given string // file of keys that somebody else looks after; "" for none
	mu    sync.Mutex
	keys  []sealKey // the last one seals, all of them open
}

type sealKey struct {
	id   string
	aead cipher.AEAD
	raw  []byte
}

const (
	sealFile    = "seal.key"
	sealVersion = "s1"
)

// OpenSealer reads the keys from seal.key in a directory. It makes the
// directory and a first key when there are none; but it does not when there
// is something that an earlier key has sealed.
func OpenSealer(dir string) (*Sealer, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, keyFault(dir, "let the user that runs provision write to the state directory", err)
	}
	s := &Sealer{file: filepath.Join(dir, sealFile)}
	raw, err := readPrivate(s.file)
	if errors.Is(err, fs.ErrNotExist) {
		if err := refuseNewKey(dir); err != nil {
			return nil, err
		}
		return s, s.Rotate()
	}
	if err != nil {
		return nil, err
	}
	return s, s.parse(s.file, string(raw))
}

// OpenSealerWith reads the keys from a file that somebody else looks after,
// such as a systemd credential. Those in seal.key in the directory, if there is
// one, open what was sealed before.
func OpenSealerWith(dir, given string) (*Sealer, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, keyFault(dir, "let the user that runs provision write to the state directory", err)
	}
	s := &Sealer{file: filepath.Join(dir, sealFile), given: given}
	raw, err := readPrivate(s.file)
	if err == nil {
		err = s.parse(s.file, string(raw))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if raw, err = readGiven(given); err != nil {
		return nil, err
	}
	return s, s.parse(given, string(raw))
}

func refuseNewKey(dir string) error {
	sealed, err := filepath.Glob(filepath.Join(dir, "*"+caSuffix))
	if err != nil || len(sealed) == 0 {
		return err
	}
	return keyFault(filepath.Join(dir, sealFile), "put the key file back from your backup",
		fmt.Errorf("it is missing, but %s is sealed with it", filepath.Base(sealed[0])))
}

// parse reads lines of "<id> <base64 of 32 bytes>".
func (s *Sealer) parse(file, text string) error {
	for i, line := range strings.Split(strings.TrimSpace(text), "\n") {
		id, encoded, _ := strings.Cut(strings.TrimSpace(line), " ")
		raw, err := base64.RawStdEncoding.DecodeString(encoded)
		if err != nil || id == "" {
			return keyFault(file, "put the key file back from your backup", fmt.Errorf("line %d is not a key", i+1))
		}
		aead, err := chacha20poly1305.NewX(raw)
		if err != nil {
			return keyFault(file, "put the key file back from your backup", fmt.Errorf("line %d: a key of %d bytes", i+1, len(raw)))
		}
		s.keys = append(s.keys, sealKey{id, aead, raw})
	}
	return nil
}

// Rotate adds a new key, which seals from now on. The earlier ones still
// open what they have sealed.
func (s *Sealer) Rotate() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.given != "" {
		return &fleet.Error{
			Kind: fleet.Conflict, Code: "E-KEY-GIVEN", Op: "make a new key", On: s.given, Err: errors.New("provision does not write this file"),
			Hint: "add a line to it, made with: provision secrets new-key; restart the server, then: provision secrets rotate --keep-key",
		}
	}
	old, err := os.ReadFile(s.file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return keyFault(s.file, "", err)
	}
	line := NewKey()
	if err := writePrivate(s.file, append(old, line...)); err != nil {
		return err
	}
	return s.parse(s.file, line)
}

// NewKey returns a new key as a line of a key file.
func NewKey() string {
	id, key := make([]byte, 4), make([]byte, chacha20poly1305.KeySize)
	_, _ = rand.Read(id) // never fails since Go 1.24
	_, _ = rand.Read(key)
	return fmt.Sprintf("%x %s\n", id, base64.RawStdEncoding.EncodeToString(key))
}

// Seal seals a value for a place, such as "bmc of n-0123456789". It opens
// for the same place only.
func (s *Sealer) Seal(plaintext []byte, context string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.keys) == 0 {
		return "", errors.New("seal: no key")
	}
	k := s.keys[len(s.keys)-1]
	nonce := make([]byte, k.aead.NonceSize(), k.aead.NonceSize()+len(plaintext)+k.aead.Overhead())
	_, _ = rand.Read(nonce) // never fails since Go 1.24
	box := k.aead.Seal(nonce, nonce, plaintext, []byte(k.id+"\x00"+context))
	return sealVersion + "." + k.id + "." + base64.RawURLEncoding.EncodeToString(box), nil
}

// Derive returns a key for another purpose than sealing, such as "boot
// tickets". It stays the same when the sealing key is rotated.
func (s *Sealer) Derive(purpose string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.keys) == 0 {
		return nil, errors.New("derive key: no key")
	}
	return hkdf.Key(sha256.New, s.keys[0].raw, nil, "provision: "+purpose, 32)
}

// Open returns what was sealed for this place.
func (s *Sealer) Open(sealed, context string) ([]byte, error) {
	version, rest, _ := strings.Cut(sealed, ".")
	id, encoded, ok := strings.Cut(rest, ".")
	if version != sealVersion || !ok {
		return nil, unopened(context, "", errors.New("not a sealed value"))
	}
	k, ok := s.key(id)
	if !ok {
		return nil, unopened(context, "put the key back into "+cmp.Or(s.given, s.file), fmt.Errorf("it is sealed with key %.16q, which is not there", id))
	}
	box, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil || len(box) < k.aead.NonceSize() {
		return nil, unopened(context, "", errors.New("not a sealed value"))
	}
	n := k.aead.NonceSize()
	plain, err := k.aead.Open(nil, box[:n], box[n:], []byte(id+"\x00"+context))
	if err != nil {
		return nil, unopened(context, "set the secret again", errors.New("it was changed, or sealed for another place"))
	}
	return plain, nil
}

func (s *Sealer) key(id string) (sealKey, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.keys {
		if k.id == id {
			return k, true
		}
	}
	return sealKey{}, false
}

func unopened(context, hint string, err error) error {
	return &fleet.Error{Kind: fleet.Internal, Code: "E-SEAL", Op: "open sealed value", On: context, Hint: hint, Err: err}
}
