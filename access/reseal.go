package access

import (
	"encoding/pem"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// KeyOf returns the id of the key that a value is sealed with; "" when it is
// no sealed value.
func KeyOf(sealed string) string {
	version, rest, _ := strings.Cut(sealed, ".")
	id, _, ok := strings.Cut(rest, ".")
	if version != sealVersion || !ok {
		return ""
	}
	return id
}

// Keys returns the ids of the keys that there are; the last one seals.
func (s *Sealer) Keys() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]string, 0, len(s.keys))
	for _, k := range s.keys {
		ids = append(ids, k.id)
	}
	return ids
}

// Has reports whether there is a key with this id.
func (s *Sealer) Has(id string) bool {
	_, ok := s.key(id)
	return ok
}

// File returns where the keys are kept that seal.
func (s *Sealer) File() string {
	if s.given != "" {
		return s.given
	}
	return s.file
}

// Reseal returns a value sealed with the newest key. One that is already comes
// back as it is.
func (s *Sealer) Reseal(sealed, context string) (string, error) {
	if keys := s.Keys(); len(keys) > 0 && KeyOf(sealed) == keys[len(keys)-1] {
		return sealed, nil
	}
	plain, err := s.Open(sealed, context)
	if err != nil {
		return "", err
	}
	return s.Seal(plain, context)
}

// ResealAuthorities seals the private keys of the certificate authorities in a
// directory with the newest key. Each file is replaced whole: whoever is
// interrupted does it again. It returns how many were not sealed so before.
func (s *Sealer) ResealAuthorities(dir string) (int, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*"+caSuffix))
	if err != nil {
		return 0, err
	}
	done := 0
	for _, file := range files {
		changed, err := s.resealCA(file)
		if err != nil {
			return done, err
		}
		if changed {
			done++
		}
	}
	return done, nil
}

// SealedAuthorities counts the private keys of the certificate authorities in a
// directory, by the keys that they are sealed with.
func SealedAuthorities(dir string) (map[string]int, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*"+caSuffix))
	counts := map[string]int{}
	for _, file := range files {
		raw, err := readPrivate(file)
		if err != nil {
			return nil, err
		}
		_, rest := pem.Decode(raw)
		if sealed, _ := pem.Decode(rest); sealed != nil {
			counts[KeyOf(string(sealed.Bytes))]++
		}
	}
	return counts, err
}

func (s *Sealer) resealCA(file string) (bool, error) {
	raw, err := readPrivate(file)
	if err != nil {
		return false, err
	}
	certificate, rest := pem.Decode(raw)
	sealed, _ := pem.Decode(rest)
	if certificate == nil || sealed == nil || sealed.Type != sealedBlock {
		return false, keyFault(file, "put the keys back from your backup", errors.New("not a certificate and its key"))
	}
	name := strings.TrimSuffix(filepath.Base(file), caSuffix)
	fresh, err := s.Reseal(string(sealed.Bytes), caContext(name))
	if err != nil {
		return false, fmt.Errorf("seal %s anew: %w", file, err)
	}
	if fresh == string(sealed.Bytes) {
		return false, nil
	}
	text := append(pem.EncodeToMemory(certificate), pem.EncodeToMemory(&pem.Block{Type: sealedBlock, Bytes: []byte(fresh)})...)
	return true, writePrivate(file, text)
}
