package fleet

import "testing"

func TestARulesPasswordIsWithheldFromABMCThatOnlySaysWhoseItIs(t *testing.T) {
	const here = "10.77.1.17"
	given := BMCAccess{Username: "ops", SealedPassword: "given"}
	found := BMC{Address: here, Username: "root", SealedPassword: "factory", Factory: "root"}
	with := func(change func(a *BMCAccess, b *BMC)) (BMCAccess, BMC) {
		a, b := given, found
		change(&a, &b)
		return a, b
	}
	tests := map[string]struct {
		change func(a *BMCAccess, b *BMC)
		said   string // by its machine
		want   bool
	}{
		"which was found":                                {func(*BMCAccess, *BMC) {}, "", true},
		"where its machine says that it is":              {func(*BMCAccess, *BMC) {}, here, true},
		"but not when its machine has another":           {func(*BMCAccess, *BMC) {}, "10.77.1.18", false},
		"but not when the rule has its address":          {func(a *BMCAccess, _ *BMC) { a.Address = here }, "", false},
		"but there is none that a rule does not give":    {func(a *BMCAccess, _ *BMC) { a.SealedPassword = "" }, "", false},
		"but not when the machine is switched otherwise": {func(a *BMCAccess, _ *BMC) { a.Driver = DriverPDU }, "", false},
		"but one that is ours has no need of it":         {func(_ *BMCAccess, b *BMC) { b.Own = true }, "", false},
		"but not when nothing is left of what it had":    {func(_ *BMCAccess, b *BMC) { b.Factory = "" }, "", false},
		"but not when the rule's account is in use":      {func(_ *BMCAccess, b *BMC) { b.Username = "ops" }, "", false},
		"but not when that has the name that it had":     {func(a *BMCAccess, b *BMC) { a.Username, b.SealedPassword = "root", "given" }, "", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a, b := with(tt.change)
			if got := a.Withholds(b, tt.said); got != tt.want {
				t.Errorf("Withholds = %t, want %t", got, tt.want)
			}
		})
	}
}
