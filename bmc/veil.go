package bmc

import (
	"encoding/base64"
	"encoding/json"
	"html"
	"net/url"
	"strings"
)

// veil takes our password out of what a BMC says: some repeat what they did not
// like, as they got it, or as the text around it wants it to be written.
func (t Target) veil(said string) string {
	password := string(t.Password)
	if password == "" {
		return said
	}
	quoted, _ := json.Marshal(password) // a string always can be
	forms := []string{
		base64.StdEncoding.EncodeToString([]byte(t.Username + ":" + password)), base64.StdEncoding.EncodeToString([]byte(password)),
		string(quoted[1 : len(quoted)-1]), strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(password),
		html.EscapeString(password), url.QueryEscape(password), url.PathEscape(password), password,
	}
	var pairs []string
	for _, form := range forms {
		pairs = append(pairs, form, hidden)
	}
	return strings.NewReplacer(pairs...).Replace(said)
}
