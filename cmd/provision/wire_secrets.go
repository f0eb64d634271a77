package main

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/rackstage/provision/access"
	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

// sealCredential is the systemd credential that holds the sealing keys.
const sealCredential = "provision-seal-key"

// openSealer opens the sealing keys: those of the file that the configuration
// or a systemd credential gives, or else our own in the state folder.
func (c config) openSealer(credentials string) (*access.Sealer, error) {
	keys, given := filepath.Join(c.StateDir, "keys"), c.SealKey
	if given == "" && credentials != "" {
		file := filepath.Join(credentials, sealCredential)
		if _, err := os.Stat(file); err == nil {
			given = file
		}
	}
	if given == "" {
		return access.OpenSealer(keys)
	}
	return access.OpenSealerWith(keys, given)
}

// secrets is what the server keeps sealed.
type secrets struct {
	st   *station
	turn sync.Mutex // one rotation at a time
}

// Status implements http.Secrets.
func (s *secrets) Status() (api.Secrets, error) {
	counts := s.st.engine.Sealed(access.KeyOf)
	authorities, err := access.SealedAuthorities(s.st.keysDir())
	if err != nil {
		return api.Secrets{}, err
	}
	for key, n := range authorities {
		counts[key] += n
	}
	status := api.Secrets{File: s.st.sealer.File()}
	for _, id := range s.st.sealer.Keys() {
		status.Keys = append(status.Keys, api.SecretKey{ID: id, Values: counts[id]})
		delete(counts, id)
	}
	for id, n := range counts {
		status.Keys = append(status.Keys, api.SecretKey{ID: cmp.Or(id, "unknown"), Values: n, Missing: true})
	}
	return status, nil
}

// Rotate implements http.Secrets. The earlier keys stay, so that it may be
// interrupted at any moment, and go on when it is asked for once more.
func (s *secrets) Rotate(ctx context.Context, actor string, keepKey bool) (api.Secrets, error) {
	s.turn.Lock()
	defer s.turn.Unlock()
	if !keepKey {
		if err := s.st.sealer.Rotate(); err != nil {
			return api.Secrets{}, err
		}
	}
	done, err := s.st.sealer.ResealAuthorities(s.st.keysDir())
	if err != nil {
		return api.Secrets{}, err
	}
	sealed, failed := s.st.engine.Reseal(ctx, actor, func(id fleet.NodeID, sealed string) (string, error) {
		if id == "" {
			return s.st.sealer.Reseal(sealed, bmcSecret)
		}
		return s.st.sealer.Reseal(sealed, ownSecret(id))
	})
	status, err := s.Status()
	status.Sealed = done + sealed
	if failed != nil {
		status.Failed = failed.Error()
	}
	return status, err
}

// watchKeys raises an alarm while secrets are sealed with keys that are
// missing.
func (s *secrets) watchKeys(ctx context.Context) error {
	tick := time.NewTicker(fleet.AlarmHold / 3)
	defer tick.Stop()
	for {
		s.alarm(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (s *secrets) alarm(ctx context.Context) {
	status, err := s.Status()
	if err != nil {
		s.st.log.ErrorContext(ctx, "sealed values not counted", "err", err)
		return
	}
	var missing []string
	for _, k := range status.Keys {
		if k.Missing {
			missing = append(missing, k.ID)
		}
	}
	if len(missing) == 0 {
		s.st.engine.Clear(fleet.CodeSealKey, status.File)
		return
	}
	s.st.engine.Raise(fleet.CodeSealKey, status.File, "missing: "+strings.Join(missing, ", "))
}

func (st *station) keysDir() string { return filepath.Join(st.conf.StateDir, "keys") }
