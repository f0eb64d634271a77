package access

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rackstage/provision/fleet"
)

func newest(s *Sealer) string {
	keys := s.Keys()
	return keys[len(keys)-1]
}

func TestEverythingIsSealedAnewWithTheNewestKey(t *testing.T) {
	dir := t.TempDir()
	s := sealer(t, dir)
	if _, err := OpenAuthority(dir, s); err != nil {
		t.Fatal(err)
	}
	old := seal(t, s, "calvin", "x")
	first := newest(s)
	must(t, s.Rotate())
	fresh, err := s.Reseal(old, "x")
	if err != nil || KeyOf(fresh) != newest(s) || newest(s) == first {
		t.Fatalf("Reseal = key %s, %v, want %s", KeyOf(fresh), err, newest(s))
	}
	if got, err := s.Open(fresh, "x"); err != nil || string(got) != "calvin" {
		t.Errorf("Open = %q, %v", got, err)
	}
	if same, err := s.Reseal(fresh, "x"); err != nil || same != fresh {
		t.Errorf("what is sealed with the newest key changed: %v", err)
	}
	if done, err := s.ResealAuthorities(dir); err != nil || done < 2 {
		t.Fatalf("ResealAuthorities = %d, %v", done, err)
	}
	if done, err := s.ResealAuthorities(dir); err != nil || done != 0 {
		t.Errorf("the second time: %d, %v, want 0", done, err)
	}
	// The first key opens nothing any more, so it can be taken away.
	text, err := os.ReadFile(filepath.Join(dir, sealFile))
	must(t, err)
	_, second, _ := strings.Cut(string(text), "\n")
	must(t, os.WriteFile(filepath.Join(dir, sealFile), []byte(second), 0o600))
	if _, err := OpenAuthority(dir, sealer(t, dir)); err != nil {
		t.Errorf("without the first key: %v", err)
	}
}

func TestAMissingKeyIsNamedWithItsFile(t *testing.T) {
	dir := t.TempDir()
	old := seal(t, sealer(t, dir), "calvin", "x")
	must(t, os.WriteFile(filepath.Join(dir, sealFile), []byte(NewKey()), 0o600))
	s := sealer(t, dir)
	_, err := s.Open(old, "x")
	if fleet.CodeOf(err) != "E-SEAL" || !strings.Contains(err.Error(), KeyOf(old)) || !strings.Contains(fleet.HintOf(err), sealFile) {
		t.Errorf("Open = %v, hint %q, want E-SEAL, the key's id and its file", err, fleet.HintOf(err))
	}
	if s.Has(KeyOf(old)) || !s.Has(newest(s)) {
		t.Error("Has is wrong")
	}
}

func TestKeysThatAreGivenSealAndTheOwnOnesStillOpen(t *testing.T) {
	dir, given := t.TempDir(), filepath.Join(t.TempDir(), "seal-key")
	old := seal(t, sealer(t, dir), "calvin", "x")
	must(t, os.WriteFile(given, []byte(NewKey()), 0o440)) // as systemd shows one
	s, err := OpenSealerWith(dir, given)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Open(old, "x"); err != nil || string(got) != "calvin" {
		t.Errorf("Open = %q, %v", got, err)
	}
	if fresh := seal(t, s, "x", "x"); KeyOf(fresh) == KeyOf(old) || s.File() != given {
		t.Errorf("the own key still seals")
	}
	if err := s.Rotate(); fleet.CodeOf(err) != "E-KEY-GIVEN" || fleet.HintOf(err) == "" {
		t.Errorf("Rotate = %v, want E-KEY-GIVEN and what to do", err)
	}
	for name, spoil := range map[string]func() error{
		"when others may read it": func() error { return os.Chmod(given, 0o444) },
		"when it is gone":         func() error { return os.Remove(given) },
	} {
		must(t, spoil())
		if _, err := OpenSealerWith(dir, given); fleet.CodeOf(err) != "E-KEY" || fleet.HintOf(err) == "" {
			t.Errorf("%s: %v, want E-KEY and what to do", name, err)
		}
		must(t, os.WriteFile(given, []byte(NewKey()), 0o440))
		must(t, os.Chmod(given, 0o440))
	}
}
