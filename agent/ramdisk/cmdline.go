package ramdisk

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/rackstage/provision/api"
)

// Arguments are what the boot script told the agent on the kernel command
// line.
type Arguments struct {
	Server string // "https://10.77.0.1:8443"
	CA     string // "sha256:…"
	Ticket string
	Rescue bool   // a shell is wanted, and nothing of the server
	Keys   string // of those who may sign in there, one a line
	MAC    string // of the card that the firmware booted from; "" if it was not said
}

// ParseCommandLine reads the agent's arguments out of a kernel command line.
// Other arguments are the kernel's.
func ParseCommandLine(text string) (Arguments, error) {
	var a Arguments
	for _, word := range splitWords(text) {
		key, value, _ := strings.Cut(word, "=")
		value = strings.Trim(value, `"`)
		switch key {
		case api.ArgServer:
			a.Server = strings.TrimSuffix(value, "/")
		case api.ArgCA:
			a.CA = value
		case api.ArgTicket:
			a.Ticket = value
		case api.ArgRescue:
			a.Rescue, a.Server = true, strings.TrimSuffix(value, "/")
		case api.ArgKey:
			a.Keys += value + "\n"
		case api.ArgMAC:
			a.MAC = parseBootIf(value)
		}
	}
	return a, a.check()
}

func (a Arguments) check() error {
	u, err := url.Parse(a.Server)
	switch {
	case a.Server == "":
		return fmt.Errorf("kernel command line has no %s=: was this machine booted by provision's boot script?", api.ArgServer)
	case err != nil || u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("%s=%q is not an https:// address", api.ArgServer, a.Server)
	case a.Rescue:
		return nil
	case a.CA == "":
		return fmt.Errorf("kernel command line has no %s=", api.ArgCA)
	case a.Ticket == "":
		return errors.New("kernel command line has no " + api.ArgTicket + "=")
	}
	return nil
}

// parseBootIf reads "01-52-54-00-12-34-56" (PXELINUX's form, with the
// hardware type in front) and plain MACs. What is neither is as good as
// nothing.
func parseBootIf(s string) string {
	if len(s) == 20 && strings.HasPrefix(s, "01-") {
		s = s[3:]
	}
	hw, err := net.ParseMAC(s)
	if err != nil || len(hw) != 6 {
		return ""
	}
	return hw.String()
}

// splitWords splits at blanks outside of double quotes, as the kernel does.
func splitWords(text string) []string {
	quoted := false
	return strings.FieldsFunc(text, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return !quoted && (r == ' ' || r == '\t' || r == '\n')
	})
}
