package access

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"

	"github.com/rackstage/provision/fleet"
)

// cost is what a guess at a password costs.
type cost struct {
	memory  uint32 // KiB
	passes  uint32
	threads uint8
}

const (
	saltBytes = 16
	keyBytes  = 32
)

// defaultCost takes the memory of RFC 9106's second recommended option and
// one pass instead of three (0.2 s of a core): above what OWASP asks for
// (46 MiB, one pass), and a server that provisions a rack has other work.
var defaultCost = cost{memory: 64 << 10, passes: 1, threads: 1}

// maxCost bounds what a stored hash may ask for, so that a row that somebody
// tampered with cannot exhaust the memory.
var maxCost = cost{memory: 256 << 10, passes: 10, threads: 8}

// A hasher hashes passwords, a few at a time: each takes 64 MiB.
type hasher struct {
	slots chan struct{}
	cost  cost
}

func newHasher(slots int, c cost) *hasher {
	return &hasher{slots: make(chan struct{}, slots), cost: c}
}

// nobody returns a hash that no password has. It is verified when an account
// does not exist, so that this takes as long as when it does.
func (h *hasher) nobody() string {
	return h.cost.phc(make([]byte, saltBytes), make([]byte, keyBytes))
}

// hash returns password's argon2id hash in PHC form.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, saltBytes)
	_, _ = rand.Read(salt) // never fails since Go 1.24
	key, err := h.key(ctx, password, salt, h.cost, keyBytes)
	if err != nil {
		return "", err
	}
	return h.cost.phc(salt, key), nil
}

func (c cost) phc(salt, key []byte) string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, c.memory, c.passes, c.threads,
		b64.EncodeToString(salt), b64.EncodeToString(key))
}

// verify reports whether password is the one that was hashed.
func (h *hasher) verify(ctx context.Context, phc, password string) (bool, error) {
	c, salt, want, err := parsePHC(phc)
	if err != nil {
		return false, err
	}
	got, err := h.key(ctx, password, salt, c, uint32(len(want)))
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(got, want) == 1, nil
}

func (h *hasher) key(ctx context.Context, password string, salt []byte, c cost, n uint32) ([]byte, error) {
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	case <-ctx.Done():
		return nil, &fleet.Error{Kind: fleet.Unreachable, Code: "E-LOGIN-BUSY", Op: "check password", Hint: "try again in a minute", Err: ctx.Err()}
	}
	return argon2.IDKey([]byte(password), salt, c.passes, c.memory, c.threads, n), nil
}

var errPHC = errors.New("the stored password is not an argon2id hash")

func parsePHC(phc string) (c cost, salt, key []byte, err error) {
	parts := strings.Split(phc, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return c, nil, nil, errPHC
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &c.memory, &c.passes, &c.threads); err != nil {
		return c, nil, nil, errPHC
	}
	if c.memory < 8 || c.memory > maxCost.memory || c.passes < 1 || c.passes > maxCost.passes || c.threads < 1 || c.threads > maxCost.threads {
		return c, nil, nil, errPHC
	}
	salt, errSalt := base64.RawStdEncoding.DecodeString(parts[4])
	key, errKey := base64.RawStdEncoding.DecodeString(parts[5])
	if errSalt != nil || errKey != nil || len(salt) < 8 || len(key) < 16 || len(key) > 64 {
		return c, nil, nil, errPHC
	}
	return c, salt, key, nil
}
