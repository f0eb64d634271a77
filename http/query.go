package http

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rackstage/provision/fleet"
)

// A filter is a search, read: every term has to hold. The grammar is the
// same in the console, the command line and the API:
//
//	state:failed,installing pool:prd -arch:arm64 3c:ec:ef web-
//
// A word with a key compares a field, commas mean "or", a dash in front
// means "not". A bare word is looked for in all names and addresses.
type filter []term

type term struct {
	key  string // "" for a bare word
	any  []string
	not  bool
	text string // bare word, lower case
}

const maxQuery = 512

// keys are the fields that can be compared, and how to read them.
func filterKeys() map[string]func(fleet.Node) string {
	return map[string]func(fleet.Node) string{
		"state": func(n fleet.Node) string { return string(n.State) },
		"pool":  func(n fleet.Node) string { return string(n.Pool) },
		"stage": func(n fleet.Node) string { return string(n.Stage) },
		"role":  func(n fleet.Node) string { return string(n.Role) },
		"phase": func(n fleet.Node) string { return string(n.Phase) },
		"arch":  func(n fleet.Node) string { return n.Inventory.Arch },
		"run":   func(n fleet.Node) string { return string(n.Run) },
		"code":  func(n fleet.Node) string { return strings.ToLower(string(n.Failure.Code)) },
	}
}

// parseFilter reads a search.
func parseFilter(q string) (filter, error) {
	if len(q) > maxQuery {
		return nil, badQuery("the search is longer than %d characters", "", maxQuery)
	}
	var f filter
	for word := range strings.FieldsSeq(strings.ToLower(q)) {
		t, err := parseTerm(word)
		if err != nil {
			return nil, err
		}
		f = append(f, t)
	}
	return f, nil
}

func parseTerm(word string) (term, error) {
	t := term{}
	if len(word) > 1 && word[0] == '-' {
		t.not, word = true, word[1:]
	}
	key, value, ok := strings.Cut(word, ":")
	if !ok || !looksLikeKey(key) {
		t.text = word // a MAC or an IPv6 address has colons too
		return t, nil
	}
	names := make([]string, 0, 8)
	for name := range filterKeys() {
		names = append(names, name)
	}
	slices.Sort(names)
	if !slices.Contains(names, key) {
		return t, badQuery("the search knows no %q", near(key, names), key+":")
	}
	t.key, t.any = key, strings.Split(value, ",")
	if value == "" {
		return t, badQuery("%s: needs a value", "", key)
	}
	if key == "state" {
		return t, checkStates(t.any)
	}
	return t, nil
}

func looksLikeKey(s string) bool {
	hex := true
	for _, r := range s {
		if r < 'a' || r > 'z' {
			return false
		}
		hex = hex && r <= 'f'
	}
	return s != "" && (!hex || len(s) > 2)
}

func checkStates(states []string) error {
	var known []string
	for _, s := range fleet.States() {
		known = append(known, string(s))
	}
	for i, s := range states {
		if s == "new" {
			states[i] = string(fleet.Discovered)
			continue
		}
		if !slices.Contains(known, s) {
			return badQuery("there is no state %q", near(s, known), s)
		}
	}
	return nil
}

func near(got string, known []string) string {
	if word := fleet.Nearest(got, known); word != "" {
		return fmt.Sprintf("did you mean %q?", word)
	}
	return "known are: " + strings.Join(known, ", ")
}

func badQuery(format, hint string, args ...any) error {
	return &fleet.Error{Kind: fleet.Invalid, Code: "E-QUERY", Op: "search", Hint: hint, Err: fmt.Errorf(format, args...)}
}

// holds reports whether a node is one that was searched for.
func (f filter) holds(n fleet.Node) bool {
	for _, t := range f {
		if t.holds(n) == t.not {
			return false
		}
	}
	return true
}

func (t term) holds(n fleet.Node) bool {
	if t.key != "" {
		return slices.Contains(t.any, filterKeys()[t.key](n))
	}
	for _, field := range []string{
		n.Name, string(n.ID), string(n.MAC), n.UUID, n.BMC.Address,
		n.Inventory.Serial, n.Inventory.AssetTag, n.Inventory.Vendor, n.Inventory.Product,
	} {
		if strings.Contains(strings.ToLower(field), t.text) {
			return true
		}
	}
	if n.Addr.IsValid() && strings.Contains(n.Addr.String(), t.text) {
		return true
	}
	return slices.ContainsFunc(n.MACs, func(m fleet.MAC) bool { return strings.Contains(string(m), t.text) })
}
