package agent

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
)

// A session is who this boot's agent is. It is kept in memory-backed /run, so
// that an agent that crashed in the ramdisk goes on as the same node. Its
// ticket is good for one key only: the key is there before the hello, what
// the hello brought is added to it.
type session struct {
	NodeID      string `json:"node_id,omitempty"`
	Certificate string `json:"certificate,omitempty"`
	Key         []byte `json:"key"`
}

// loadSession returns what an earlier agent of this boot left, or nothing.
func loadSession(name string) session {
	var s session
	b, err := os.ReadFile(name)
	if err != nil || json.Unmarshal(b, &s) != nil {
		return session{}
	}
	return s
}

// identity is the session's key, or a new one.
func (s session) identity() (identity, error) {
	block, _ := pem.Decode(s.Key)
	if block == nil {
		return newIdentity()
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return newIdentity()
	}
	csr, err := requestFor(key)
	return identity{s.Key, csr}, err
}

func (s session) save(name string) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return writeFile(name, b, 0o600)
}

// writeFile writes a file whole or not at all, and onto the disk.
func writeFile(name string, b []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone when all went well
	if _, err = f.Write(b); err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
