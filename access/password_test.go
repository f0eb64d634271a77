package access

import (
	"strings"
	"testing"
)

// From the reference implementation (argon2 somesalt -id -t 2 -m 16 -p 1): what we
// read and write is the common form.
const reference = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"

func TestAHashOfTheReferenceImplementationVerifies(t *testing.T) {
	h := newHasher(1, cheap)
	for password, want := range map[string]bool{"password": true, "Password": false, "": false} {
		got, err := h.verify(t.Context(), reference, password)
		if got != want || err != nil {
			t.Errorf("verify(%q) = %t, %v, want %t", password, got, err, want)
		}
	}
}

func TestEachHashHasItsOwnSalt(t *testing.T) {
	h := newHasher(1, cheap)
	one, err1 := h.hash(t.Context(), "correct horse")
	two, err2 := h.hash(t.Context(), "correct horse")
	if err1 != nil || err2 != nil || one == two {
		t.Errorf("hashes %q, %q, errors %v, %v", one, two, err1, err2)
	}
	if strings.Contains(one, "horse") {
		t.Error("the hash shows the password")
	}
	if ok, err := h.verify(t.Context(), one, "correct horse"); !ok || err != nil {
		t.Errorf("verify = %t, %v", ok, err)
	}
}

func TestPasswordsCostMemory(t *testing.T) {
	phc, err := newHasher(1, defaultCost).hash(t.Context(), "correct horse")
	if err != nil || !strings.HasPrefix(phc, "$argon2id$v=19$m=65536,t=1,p=1$") {
		t.Errorf("hash = %q, %v", phc, err)
	}
}

func TestNobodysHashIsLikeAnyOther(t *testing.T) {
	for _, c := range []cost{cheap, defaultCost} {
		got, salt, key, err := parsePHC(newHasher(1, c).nobody())
		if got != c || len(salt) != saltBytes || len(key) != keyBytes || err != nil {
			t.Errorf("nobody's hash has cost %+v, salt %d, key %d, %v", got, len(salt), len(key), err)
		}
	}
}

func TestAnOddHashIsAnErrorAndCostsNothing(t *testing.T) {
	tests := map[string]string{
		"nothing":             "",
		"another algorithm":   "$argon2i$v=19$m=64,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"another version":     "$argon2id$v=16$m=64,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"terabytes of memory": "$argon2id$v=19$m=4294967295,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"years of passes":     "$argon2id$v=19$m=64,t=4294967295,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"no threads":          "$argon2id$v=19$m=64,t=1,p=0$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"no key":              "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$",
		"no salt":             "$argon2id$v=19$m=64,t=1,p=1$$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"bcrypt":              "$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy",
		"not base64":          "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$CTFh FdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
	}
	for name, phc := range tests {
		t.Run(name, func(t *testing.T) {
			if ok, err := newHasher(1, cheap).verify(t.Context(), phc, ""); ok || err == nil {
				t.Errorf("verify = %t, %v, want an error", ok, err)
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	h := newHasher(1, defaultCost)
	for b.Loop() {
		if _, err := h.verify(b.Context(), h.nobody(), "password"); err != nil {
			b.Fatal(err)
		}
	}
}
