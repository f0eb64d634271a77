package access

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/rackstage/provision/fleet"
)

// memory is a Store that keeps everything in maps. store has the real one,
// and cmd/provision puts both together.
type memory struct {
	mu     sync.Mutex
	users  map[string]fleet.User
	logins map[[32]byte]fleet.Login
	broken error // what every call answers, if set
}

func newMemory() *memory {
	return &memory{users: map[string]fleet.User{}, logins: map[[32]byte]fleet.Login{}}
}

var errNone = &fleet.Error{Kind: fleet.NotFound, Err: errors.New("there is none")}

func (m *memory) User(_ context.Context, name string) (fleet.User, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken != nil {
		return fleet.User{}, m.broken
	}
	if u, ok := m.users[name]; ok {
		return u, nil
	}
	return fleet.User{}, errNone
}

func (m *memory) SaveUser(_ context.Context, u fleet.User) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.users[u.Name] = u
	for hash, l := range m.logins {
		if l.User == u.Name {
			delete(m.logins, hash)
		}
	}
	return m.broken
}

func (m *memory) Login(_ context.Context, hash [32]byte) (fleet.Login, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken != nil {
		return fleet.Login{}, m.broken
	}
	if l, ok := m.logins[hash]; ok {
		return l, nil
	}
	return fleet.Login{}, errNone
}

func (m *memory) SaveLogin(_ context.Context, l fleet.Login) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.logins[l.Hash] = l
	return m.broken
}

func (m *memory) DeleteLogin(_ context.Context, hash [32]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.logins, hash)
	return m.broken
}

// cheap makes hashing fast enough for tests that sign in often.
var cheap = cost{memory: 64, passes: 1, threads: 1}

func accounts(t *testing.T, opt Options) (*Accounts, *memory) {
	t.Helper()
	m := newMemory()
	a := NewAccounts(m, opt)
	a.hasher = newHasher(hashesAtOnce, cheap)
	if err := a.SetPassword(t.Context(), "ada", "correct horse", Operator); err != nil {
		t.Fatal(err)
	}
	return a, m
}
