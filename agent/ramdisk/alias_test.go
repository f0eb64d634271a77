package ramdisk

import (
	"slices"
	"strings"
	"testing"
)

func TestMatch(t *testing.T) {
	tests := map[string]struct {
		pattern, s string
		want       bool
	}{
		"plain text":                     {"fs-ext4", "fs-ext4", true},
		"longer text":                    {"fs-ext4", "fs-ext4x", false},
		"a PCI device":                   {"pci:v00008086d00001533sv*sd*bc*sc*i*", "pci:v00008086d00001533sv00008086sd00000001bc02sc00i00", true},
		"another PCI device":             {"pci:v00008086d00001533sv*sd*bc*sc*i*", "pci:v00008086d00001534sv00008086sd00000001bc02sc00i00", false},
		"a PCI class":                    {"pci:v*d*sv*sd*bc01sc06i01*", "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01", true},
		"a range of USB versions":        {"usb:v0BDAp8152d[2-3]*dc*", "usb:v0BDAp8152d3000dc00", true},
		"outside of the range":           {"usb:v0BDAp8152d[2-3]*dc*", "usb:v0BDAp8152d1000dc00", false},
		"a list of characters":           {"x[a-cz]y", "xzy", true},
		"not in the list":                {"x[!a-c]y", "xby", false},
		"something else than the list":   {"x[!a-c]y", "xdy", true},
		"a bracket that never closes":    {"x[a", "x[a", true},
		"any one character":              {"a?c", "abc", true},
		"one character has to be there":  {"a?c", "ac", false},
		"stars may stand for nothing":    {"a**b*", "ab", true},
		"a star takes slashes too":       {"of:N*T*C*", "of:Nfoo/barTxCy", true},
		"the last star is tried further": {"*ab", "aabaab", true},
		"nothing":                        {"", "", true},
		"something is not nothing":       {"", "a", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := match(tt.pattern, tt.s); got != tt.want {
				t.Errorf("match(%q, %q) = %v, want %v", tt.pattern, tt.s, got, tt.want)
			}
		})
	}
}

func TestAliasesAreFoundWhereverTheirPatternBegins(t *testing.T) {
	index, err := readAliases(strings.NewReader(`# comment
alias pci:v00001AF4d00001000sv*sd*bc*sc*i* virtio_pci
alias pci:v*d*sv*sd*bc01sc06i01* ahci
alias virtio:d00000001v* virtio_net
alias fs-ext4 ext4
alias *:weird any
alias broken
`))
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string][]string{
		"pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00": {"virtio_pci"},
		"pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01": {"ahci"},
		"virtio:d00000001v00001AF4":                             {"virtio_net"},
		"fs-ext4":                                               {"ext4"},
		"acpi:weird":                                            {"any"},
		"acpi:PNP0501:":                                         nil,
		"":                                                      nil,
	}
	for alias, want := range tests {
		if got := index.find(alias); !slices.Equal(got, want) {
			t.Errorf("find(%q) = %v, want %v", alias, got, want)
		}
	}
}

func FuzzMatch(f *testing.F) {
	f.Add("pci:v*d*sv*sd*bc01sc06i01*", "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01")
	f.Add("[", "[")
	f.Add("[]", "]")
	f.Add("[!]", "a")
	f.Add("*[a-", "aaa")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if len(pattern) > 200 || len(s) > 200 {
			return // a row of stars takes its time
		}
		match(pattern, s)
		if !strings.ContainsAny(s, "*?[") && !match(s, s) {
			t.Errorf("match(%q, %q) = false: plain text has to match itself", s, s)
		}
	})
}
