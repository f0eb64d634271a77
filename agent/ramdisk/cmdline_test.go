package ramdisk

import "testing"

func TestParseCommandLine(t *testing.T) {
	const enough = "provision.server=https://10.77.0.1:8443 provision.ca=sha256:ab provision.ticket=T "
	whole := Arguments{Server: "https://10.77.0.1:8443", CA: "sha256:ab", Ticket: "T"}
	withMAC := whole
	withMAC.MAC = "52:54:00:12:34:56"
	tests := map[string]struct {
		line string
		want Arguments
		bad  bool
	}{
		"the usual line":                       {"initrd=initrd.img console=ttyS0 " + enough + "BOOTIF=01-52-54-00-12-34-56\n", withMAC, false},
		"a MAC without hardware type":          {enough + "BOOTIF=52:54:00:12:34:56", withMAC, false},
		"a card that cannot be is nobody":      {enough + "BOOTIF=nonsense", whole, false},
		"no card is said":                      {enough, whole, false},
		"a trailing slash is no part":          {"provision.server=https://10.77.0.1:8443/ provision.ca=sha256:ab provision.ticket=T", whole, false},
		"quotes keep words together":           {`foo="a provision.ticket=X b" ` + enough, whole, false},
		"quoted values lose their quotes":      {`provision.server="https://10.77.0.1:8443" provision.ca=sha256:ab provision.ticket="T"`, whole, false},
		"a rescue needs no ticket":             {"provision.rescue=https://10.77.0.1:8443 BOOTIF=01-52-54-00-12-34-56 provision.key=ssh-ed25519:AA+/= provision.key=x:y", Arguments{Rescue: true, Server: "https://10.77.0.1:8443", MAC: "52:54:00:12:34:56", Keys: "ssh-ed25519:AA+/=\nx:y\n"}, false},
		"without a server it cannot go on":     {"provision.ca=sha256:ab provision.ticket=T", Arguments{}, true},
		"plain http is no server":              {"provision.server=http://10.77.0.1 provision.ca=sha256:ab provision.ticket=T", Arguments{}, true},
		"without a CA nobody can be trusted":   {"provision.server=https://10.77.0.1 provision.ticket=T", Arguments{}, true},
		"without a ticket nobody lets us in":   {"provision.server=https://10.77.0.1 provision.ca=sha256:ab", Arguments{}, true},
		"an empty line is not from our script": {"", Arguments{}, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := ParseCommandLine(tt.line)
			if (err != nil) != tt.bad {
				t.Fatalf("ParseCommandLine: %v, want an error: %v", err, tt.bad)
			}
			if err == nil && got != tt.want {
				t.Errorf("ParseCommandLine = %+v, want %+v", got, tt.want)
			}
		})
	}
}
