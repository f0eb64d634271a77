package lab

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rackstage/provision/lab/redfish"
)

// simUsers reads the accounts that were made or changed by IPMI: what ipmi_sim
// keeps about them in its folder. A file that it is just writing, or that is
// not there, has none.
func (b *bay) simUsers() []redfish.Account {
	text, err := os.ReadFile(filepath.Join(b.path(bmcDir), "ipmi_sim", b.Machine.Name, "users.mc20"))
	if err != nil {
		return nil
	}
	return parseSimUsers(string(text))
}

// parseSimUsers reads lines such as 5.username:d:admin\00\00, of which each
// slot has several.
func parseSimUsers(text string) []redfish.Account {
	slots := map[string]map[string]string{}
	var order []string
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		slot, name, dotted := strings.Cut(key, ".")
		_, value, typed := strings.Cut(value, ":")
		if !ok || !dotted || !typed {
			continue
		}
		if slots[slot] == nil {
			slots[slot] = map[string]string{}
			order = append(order, slot)
		}
		slots[slot][name] = value
	}
	var users []redfish.Account
	for _, slot := range order {
		s := slots[slot]
		a := redfish.Account{Username: unescape(s["username"]), Password: unescape(s["passwd"]), Operator: s["privilege"] == "3"}
		if s["valid"] == "1" && a.Username != "" && a.Password != "" {
			users = append(users, a)
		}
	}
	return users
}

// unescape undoes \xx for bytes, and ends at a zero.
func unescape(s string) string {
	var b strings.Builder
	for s != "" {
		c := s[0]
		s = s[1:]
		if c == '\\' && len(s) >= 2 {
			n, err := strconv.ParseUint(s[:2], 16, 8)
			if err == nil {
				c, s = byte(n), s[2:]
			}
		}
		if c == 0 {
			break
		}
		b.WriteByte(c)
	}
	return b.String()
}
