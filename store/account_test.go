package store_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/store"
)

func user(name string) fleet.User {
	return fleet.User{Name: name, Role: fleet.AccountRole("operator"), Password: "$argon2id$…", Created: when}
}

func login(secret, name string) fleet.Login {
	return fleet.Login{Hash: fleet.HashSecret(secret), User: name, Kind: fleet.LoginConsole, Created: when, Expires: when.Add(time.Hour)}
}

func TestAccountsAndLoginsAreKept(t *testing.T) {
	s, path := fresh(t)
	must(t, s.SaveUser(t.Context(), user("ada")))
	must(t, s.SaveUser(t.Context(), user("bob")))
	must(t, s.SaveLogin(t.Context(), login("a", "ada")))
	closeStore(t, s)
	s = open(t, path)
	defer closeStore(t, s)
	got, err := s.User(t.Context(), "ada")
	if diff := cmp.Diff(user("ada"), got); diff != "" || err != nil {
		t.Errorf("User: %v (-want +got):\n%s", err, diff)
	}
	all, err := s.Users(t.Context())
	if diff := cmp.Diff([]fleet.User{user("ada"), user("bob")}, all); diff != "" || err != nil {
		t.Errorf("Users: %v (-want +got):\n%s", err, diff)
	}
	l, err := s.Login(t.Context(), fleet.HashSecret("a"))
	if diff := cmp.Diff(login("a", "ada"), l); diff != "" || err != nil {
		t.Errorf("Login: %v (-want +got):\n%s", err, diff)
	}
}

func TestWhatIsNotThereIsNotFound(t *testing.T) {
	s, _ := fresh(t)
	if _, err := s.User(t.Context(), "ada"); fleet.KindOf(err) != fleet.NotFound {
		t.Errorf("User = %v, want a NotFound error", err)
	}
	if _, err := s.Login(t.Context(), fleet.HashSecret("a")); fleet.KindOf(err) != fleet.NotFound {
		t.Errorf("Login = %v, want a NotFound error", err)
	}
	must(t, s.DeleteLogin(t.Context(), fleet.HashSecret("a")))
	must(t, s.DeleteUser(t.Context(), "ada"))
}

func TestLoginsEnd(t *testing.T) {
	tests := map[string]struct {
		end  func(t *testing.T, s *store.Store)
		ada  bool // is still signed in
		bob  bool
		late bool // an expired one is still there
	}{
		"not by themselves": {func(*testing.T, *store.Store) {}, true, true, true},
		"when they are ended": {func(t *testing.T, s *store.Store) {
			t.Helper()
			must(t, s.DeleteLogin(t.Context(), fleet.HashSecret("ada")))
		}, false, true, true},
		"when the account changes": {func(t *testing.T, s *store.Store) {
			t.Helper()
			must(t, s.SaveUser(t.Context(), user("ada")))
		}, false, true, true},
		"when the account goes": {func(t *testing.T, s *store.Store) {
			t.Helper()
			must(t, s.DeleteUser(t.Context(), "bob"))
		}, true, false, true},
		"when they have expired and somebody signs in": {func(t *testing.T, s *store.Store) {
			t.Helper()
			must(t, s.SaveLogin(t.Context(), login("x", "ada")))
		}, true, true, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s, _ := fresh(t)
			must(t, s.SaveUser(t.Context(), user("ada")))
			must(t, s.SaveUser(t.Context(), user("bob")))
			late := login("late", "ada")
			late.User, late.Created, late.Expires = "eve", when.Add(-time.Hour), when.Add(-time.Minute)
			must(t, s.SaveLogin(t.Context(), late))
			early := login("ada", "ada")
			early.Created = late.Created // so that it does not sweep the late one away
			must(t, s.SaveLogin(t.Context(), early))
			early = login("bob", "bob")
			early.Created = late.Created
			must(t, s.SaveLogin(t.Context(), early))
			tt.end(t, s)
			for secret, want := range map[string]bool{"ada": tt.ada, "bob": tt.bob, "late": tt.late} {
				if _, err := s.Login(t.Context(), fleet.HashSecret(secret)); (err == nil) != want {
					t.Errorf("login of %s: %v, want it there: %t", secret, err, want)
				}
			}
		})
	}
}
