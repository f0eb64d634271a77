package access

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rackstage/provision/fleet"
)

var (
	desk = netip.MustParseAddr("10.0.0.7")
	here = netip.MustParseAddr("127.0.0.1")
)

func TestSignIn(t *testing.T) {
	tests := map[string]struct {
		user, password string
		demo           bool
		want           fleet.Code
		from           netip.Addr // desk when not set
	}{
		"the right password":                     {"ada", "correct horse", false, "", netip.Addr{}},
		"a wrong password":                       {"ada", "correct hors", false, "E-LOGIN", netip.Addr{}},
		"no password":                            {"ada", "", false, "E-LOGIN", netip.Addr{}},
		"an unknown user":                        {"bob", "correct horse", false, "E-LOGIN", netip.Addr{}},
		"a name that cannot be":                  {"' OR 1=1 --", "x", false, "E-LOGIN", netip.Addr{}},
		"no name":                                {"", "", false, "E-LOGIN", netip.Addr{}},
		"an endless password":                    {"ada", strings.Repeat("x", 1<<20), false, "E-LOGIN", netip.Addr{}},
		"the demo account when it was asked for": {"demo", "demo", true, "", here},
		"the demo account from another machine":  {"demo", "demo", true, "E-LOGIN-DEMO", desk},
		"the demo account with another password": {"demo", "x", true, "E-LOGIN", netip.Addr{}},
		"the demo account when it was not":       {"demo", "demo", false, "E-LOGIN", netip.Addr{}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a, _ := accounts(t, Options{DemoLogin: tt.demo})
			token, _, err := a.SignIn(t.Context(), tt.user, tt.password, cmp.Or(tt.from, desk))
			if got := fleet.CodeOf(err); got != tt.want {
				t.Fatalf("SignIn = %v, want code %q", err, tt.want)
			}
			if (err == nil) != (token != "") {
				t.Errorf("token %q with error %v", token, err)
			}
			if err != nil && tt.password != "" && len(tt.password) > 4 && strings.Contains(err.Error(), tt.password) {
				t.Error("the error shows the password")
			}
		})
	}
}

func TestATokenSaysWhoAsks(t *testing.T) {
	a, m := accounts(t, Options{DemoLogin: true})
	token, expires, err := a.SignIn(t.Context(), "ada", "correct horse", desk)
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(expires); left > LoginLife || left < LoginLife-time.Minute {
		t.Errorf("it expires in %v, want %v", left, LoginLife)
	}
	got, err := a.Identify(t.Context(), token)
	if want := (Identity{User: "ada", Role: Operator}); got != want || err != nil {
		t.Errorf("Identify = %+v, %v, want %+v", got, err, want)
	}
	for hash := range m.logins {
		if strings.Contains(token, string(hash[:])) || hash != fleet.HashSecret(token) {
			t.Error("the store holds something else than the token's hash")
		}
	}
	demo, _, err := a.SignIn(t.Context(), "demo", "demo", here)
	if err != nil {
		t.Fatal(err)
	}
	if demo == token {
		t.Error("two logins have the same token")
	}
	got, err = a.Identify(t.Context(), demo)
	if want := (Identity{User: "demo", Role: Viewer, Demo: true}); got != want || err != nil {
		t.Errorf("Identify = %+v, %v, want %+v", got, err, want)
	}
}

func TestATokenIsWorthNothing(t *testing.T) {
	tests := map[string]func(t *testing.T, a *Accounts, m *memory, token string) string{
		"when it was made up": func(_ *testing.T, _ *Accounts, _ *memory, token string) string {
			return token[:len(token)-1] + "_"
		},
		"when it is empty": func(*testing.T, *Accounts, *memory, string) string { return "" },
		"after the sign-out": func(t *testing.T, a *Accounts, _ *memory, token string) string {
			if err := a.SignOut(t.Context(), token); err != nil {
				t.Error(err)
			}
			return token
		},
		"when it is the stored hash": func(_ *testing.T, _ *Accounts, _ *memory, token string) string {
			h := fleet.HashSecret(token)
			return string(h[:])
		},
		"after the password was changed": func(t *testing.T, a *Accounts, _ *memory, token string) string {
			if err := a.SetPassword(t.Context(), "ada", "battery staple", Operator); err != nil {
				t.Error(err)
			}
			return token
		},
		"when the account is gone": func(_ *testing.T, _ *Accounts, m *memory, token string) string {
			delete(m.users, "ada")
			return token
		},
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			a, m := accounts(t, Options{})
			token, _, err := a.SignIn(t.Context(), "ada", "correct horse", desk)
			if err != nil {
				t.Fatal(err)
			}
			got, err := a.Identify(t.Context(), spoil(t, a, m, token))
			if fleet.KindOf(err) != fleet.Denied || got != (Identity{}) {
				t.Errorf("Identify = %+v, %v, want a Denied error", got, err)
			}
		})
	}
}

func TestADemoLoginEndsWithTheDemo(t *testing.T) {
	a, m := accounts(t, Options{DemoLogin: true})
	token, _, err := a.SignIn(t.Context(), "demo", "demo", here)
	if err != nil {
		t.Fatal(err)
	}
	restarted := NewAccounts(m, Options{})
	if id, err := restarted.Identify(t.Context(), token); fleet.KindOf(err) != fleet.Denied {
		t.Errorf("Identify = %+v, %v, want a Denied error", id, err)
	}
}

func TestAChangeOfRoleIsSeenAtOnce(t *testing.T) {
	a, m := accounts(t, Options{})
	token, _, err := a.SignIn(t.Context(), "ada", "correct horse", desk)
	if err != nil {
		t.Fatal(err)
	}
	u := m.users["ada"]
	u.Role = Viewer
	m.users["ada"] = u
	if id, err := a.Identify(t.Context(), token); id.May(Operator) || err != nil {
		t.Errorf("Identify = %+v, %v, want a viewer", id, err)
	}
}

func TestATokenExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := accounts(t, Options{})
		token, _, err := a.SignIn(t.Context(), "ada", "correct horse", desk)
		if err != nil {
			t.Fatal(err)
		}
		wait(LoginLife - time.Second)
		if _, err := a.Identify(t.Context(), token); err != nil {
			t.Errorf("a second before: %v", err)
		}
		wait(time.Second)
		if _, err := a.Identify(t.Context(), token); fleet.KindOf(err) != fleet.Denied {
			t.Errorf("Identify = %v, want a Denied error", err)
		}
	})
}

// wait lets synctest's clock go on.
func wait(d time.Duration) { <-time.After(d) }

func TestFailuresAreLimited(t *testing.T) {
	other := netip.MustParseAddr("10.0.0.8")
	fail := func(t *testing.T, a *Accounts, user string, from netip.Addr, times int) (last error) {
		for range times {
			_, _, last = a.SignIn(t.Context(), user, "wrong", from)
		}
		return last
	}
	tests := map[string]struct {
		user string
		from netip.Addr
		want fleet.Code // after ten failures of ada from desk
	}{
		"the account from another address": {"ada", other, "E-LOGIN-LIMIT"},
		"another account from the address": {"bob", desk, "E-LOGIN-LIMIT"},
		"the address written as IPv6":      {"bob", netip.AddrFrom16(desk.As16()), "E-LOGIN-LIMIT"},
		"another account and address":      {"bob", other, "E-LOGIN"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, _ := accounts(t, Options{})
				if err := fail(t, a, "ada", desk, 10); fleet.CodeOf(err) != "E-LOGIN" {
					t.Fatalf("the tenth failure: %v, want E-LOGIN", err)
				}
				if err := fail(t, a, tt.user, tt.from, 1); fleet.CodeOf(err) != tt.want {
					t.Errorf("the eleventh: %v, want %s", err, tt.want)
				}
				wait(time.Minute)
				if _, _, err := a.SignIn(t.Context(), "ada", "correct horse", desk); err != nil {
					t.Errorf("a minute later: %v", err)
				}
			})
		})
	}
}

func TestSuccessesAreNotLimited(t *testing.T) {
	a, _ := accounts(t, Options{})
	for range 30 {
		if _, _, err := a.SignIn(t.Context(), "ada", "correct horse", desk); err != nil {
			t.Fatal(err)
		}
	}
}

func TestABrokenStoreIsNotTheirFailure(t *testing.T) {
	a, m := accounts(t, Options{})
	m.broken = &fleet.Error{Kind: fleet.Internal, Code: "E-DB-IO"}
	for range 30 {
		if _, _, err := a.SignIn(t.Context(), "ada", "correct horse", desk); fleet.CodeOf(err) != "E-DB-IO" {
			t.Fatalf("SignIn = %v, want the store's error", err)
		}
	}
	if _, err := a.Identify(t.Context(), "x"); fleet.CodeOf(err) != "E-DB-IO" {
		t.Errorf("Identify = %v, want the store's error: nobody may be told to sign in again", err)
	}
}

func TestAHundredAtOnceAreNotMoreThanTen(t *testing.T) {
	a, _ := accounts(t, Options{})
	var mu sync.Mutex
	got := map[fleet.Code]int{}
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			_, _, err := a.SignIn(t.Context(), "ada", "wrong", desk)
			mu.Lock()
			defer mu.Unlock()
			got[fleet.CodeOf(err)]++
		})
	}
	all.Wait()
	if got["E-LOGIN"] != 10 || got["E-LOGIN-LIMIT"] != 90 {
		t.Errorf("answers %v, want 10 E-LOGIN and 90 E-LOGIN-LIMIT", got)
	}
}

func TestAnUnknownUserTakesAsLongAsAWrongPassword(t *testing.T) {
	a, _ := accounts(t, Options{})
	for _, user := range []string{"ada", "nobody-here", "demo", "Not A Name"} {
		a.hasher = newHasher(0, cheap) // every hash waits for ever
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := a.SignIn(ctx, user, "wrong", desk); fleet.CodeOf(err) != "E-LOGIN-BUSY" {
			t.Errorf("%s: %v, want to see it wait for the hasher", user, err)
		}
	}
}

func TestALoginFloodWaitsForMemoryAndGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := accounts(t, Options{})
		for range hashesAtOnce {
			a.hasher.slots <- struct{}{}
		}
		start := time.Now()
		_, _, err := a.SignIn(t.Context(), "ada", "correct horse", desk)
		if fleet.CodeOf(err) != "E-LOGIN-BUSY" || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("SignIn = %v, want E-LOGIN-BUSY", err)
		}
		if took := time.Since(start); took != hashPatience {
			t.Errorf("it took %v, want %v", took, hashPatience)
		}
	})
}

func TestAccountsAreChecked(t *testing.T) {
	tests := map[string]struct {
		user, password string
		role           Role
	}{
		"a name with a space":    {"a b", "correct horse", Viewer},
		"an empty name":          {"", "correct horse", Viewer},
		"the demo account":       {"demo", "correct horse", Admin},
		"a short password":       {"bob", "1234567", Viewer},
		"an unknown role":        {"bob", "correct horse", "root"},
		"an unbounded password":  {"bob", strings.Repeat("x", 1025), Viewer},
		"no role":                {"bob", "correct horse", ""},
		"a name with upper case": {"Bob", "correct horse", Viewer},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a, m := accounts(t, Options{})
			if err := a.SetPassword(t.Context(), tt.user, tt.password, tt.role); fleet.KindOf(err) != fleet.Invalid {
				t.Errorf("SetPassword = %v, want an Invalid error", err)
			}
			if len(m.users) != 1 {
				t.Errorf("users = %v, want ada only", m.users)
			}
		})
	}
}

func TestMay(t *testing.T) {
	all := []Role{Viewer, Operator, Admin}
	tests := map[string]struct {
		id   Identity
		want []bool // viewer, operator, admin
	}{
		"nobody":                        {Identity{}, []bool{false, false, false}},
		"a viewer":                      {Identity{Role: Viewer}, []bool{true, false, false}},
		"an operator":                   {Identity{Role: Operator}, []bool{true, true, false}},
		"an admin":                      {Identity{Role: Admin}, []bool{true, true, true}},
		"a role that we do not know":    {Identity{Role: "root"}, []bool{false, false, false}},
		"a demo that claims to be more": {Identity{Role: Admin, Demo: true}, []bool{true, false, false}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for i, r := range all {
				if got := tt.id.May(r); got != tt.want[i] {
					t.Errorf("May(%s) = %t, want %t", r, got, tt.want[i])
				}
			}
			if tt.id.May("root") || tt.id.May("") {
				t.Error("it may what no role may")
			}
		})
	}
}
