package templates

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/template"

	"github.com/rackstage/provision/fleet"
)

// functions are all that templates can call: one per kind of reader.
func functions() template.FuncMap {
	return template.FuncMap{
		"yaml":      quoteYAML,
		"name":      checkName,
		"domain":    checkDomain,
		"shellword": checkShellWord,
	}
}

// quoteYAML writes a string as YAML reads it back: a JSON string is one in
// YAML too, and holds no character that means anything.
func quoteYAML(s string) (string, error) {
	b, err := json.Marshal(strings.ToValidUTF8(s, "\ufffd"))
	return strings.ReplaceAll(string(b), "\x7f", `\u007f`), err
}

func checkName(s string) (string, error) {
	if !fleet.ValidName(s) {
		return "", fmt.Errorf("%q is not a name", s)
	}
	return s, nil
}

func checkDomain(s string) (string, error) {
	for label := range strings.SplitSeq(s, ".") {
		if !fleet.ValidName(label) {
			return "", fmt.Errorf("%q is not a domain name", s)
		}
	}
	return s, nil
}

// checkShellWord lets through what a shell takes literally, inside of double
// quotes too. Nothing is escaped for a shell: it is refused.
func checkShellWord(s string) (string, error) {
	odd := func(r rune) bool {
		letter := ('a' <= r && r <= 'z') || ('A' <= r && r <= 'Z') || ('0' <= r && r <= '9')
		return !letter && !strings.ContainsRune("-_.,:=@/+%", r)
	}
	if s == "" || strings.ContainsFunc(s, odd) {
		return "", fmt.Errorf("kernel argument %q has characters that a shell would take", s)
	}
	return s, nil
}
