package tftp

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestOptionsAreGrantedWithinOurLimits(t *testing.T) {
	tests := map[string]struct {
		in   string // options, as "name value name value"
		want []option
	}{
		"none":                               {"", nil},
		"names in capitals":                  {"BLKSIZE 1024 TSize 0", []option{{"blksize", 1024}, {"tsize", 0}}},
		"a window":                           {"blksize 1468 windowsize 4", []option{{"blksize", 1468}, {"windowsize", 4}}},
		"a window bigger than we send":       {"windowsize 65535", []option{{"windowsize", 64}}},
		"a window of nothing":                {"windowsize 0", nil},
		"a window out of range":              {"windowsize 65536", nil},
		"a block bigger than a frame":        {"blksize 8192", []option{{"blksize", 1468}}},
		"a block that is too small":          {"blksize 7", nil},
		"a block that is too big":            {"blksize 65465", nil},
		"a block that is no number":          {"blksize abc", nil},
		"a negative block":                   {"blksize -1", nil},
		"a size that is not asked for":       {"tsize 4711", nil},
		"an option twice":                    {"blksize 600 blksize 700", []option{{"blksize", 600}}},
		"an option without a value":          {"blksize", nil},
		"an unknown option":                  {"multicast 1 tsize 0", []option{{"tsize", 0}}},
		"seconds to wait":                    {"timeout 5", []option{{"timeout", 5}}},
		"seconds out of range":               {"timeout 256", nil},
		"no seconds at all":                  {"timeout 0", nil},
		"microseconds to wait":               {"utimeout 250000", []option{{"utimeout", 250000}}},
		"microseconds that would be a flood": {"utimeout 10000", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			in := "\x00\x01f\x00OcTeT\x00"
			if tt.in != "" {
				in += strings.ReplaceAll(tt.in, " ", "\x00") + "\x00"
			}
			r, err := parseRequest([]byte(in))
			if err != nil {
				t.Fatalf("parseRequest: %v", err)
			}
			if r.name != "f" || r.mode != "octet" || !slices.Equal(r.options, tt.want) {
				t.Errorf("got %+v, want f in octet with %+v", r, tt.want)
			}
		})
	}
}

func TestPinGetsOnlyWhatItUnderstands(t *testing.T) {
	r, err := parseRequest([]byte("\x00\x01/a//b\x00NetASCII\x00WINDOWSIZE\x004\x00BLKSIZE\x008192\x00TSize\x000\x00timeout\x005\x00"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(r.bytes()), "\x00\x01/a//b\x00netascii\x00blksize\x001468\x00tsize\x000\x00"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWhatIsNoReadRequestIsRefused(t *testing.T) {
	tests := map[string]struct {
		in   string
		want error
	}{
		"nothing":              {"", errMalformed},
		"an opcode only":       {"\x00\x01", errMalformed},
		"no mode":              {"\x00\x01file\x00", errMalformed},
		"no NUL at the end":    {"\x00\x01f\x00octet", errMalformed},
		"mode mail":            {"\x00\x01f\x00mail\x00", errMalformed},
		"an unknown mode":      {"\x00\x01f\x00x\x00", errMalformed},
		"a write":              {"\x00\x02f\x00octet\x00", errWrite},
		"data":                 {"\x00\x03\x00\x01xyz", errMalformed},
		"an ACK":               {"\x00\x04\x00\x01", errMalformed},
		"an opcode of nobody":  {"\x01\x01f\x00octet\x00", errMalformed},
		"a name of 256 bytes":  {"\x00\x01" + strings.Repeat("x", 256) + "\x00octet\x00", errMalformed},
		"a request of 2 KiB":   {"\x00\x01f\x00octet\x00" + strings.Repeat("x\x001\x00", 500), errMalformed},
		"nothing but NULs":     {"\x00\x01\x00\x00", errMalformed},
		"an option block only": {"\x00\x06blksize\x00512\x00", errMalformed},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := parseRequest([]byte(tt.in)); !errors.Is(err, tt.want) {
				t.Errorf("parseRequest = %v, want %v", err, tt.want)
			}
		})
	}
}

func TestNamesBecomeCleanRelativePaths(t *testing.T) {
	tests := map[string]struct {
		want string
		ok   bool
	}{
		"snponly.efi":             {"snponly.efi", true},
		"/snponly.efi":            {"snponly.efi", true},
		"a//grubx64.efi":          {"a/grubx64.efi", true},
		`\EFI\boot\x.efi`:         {"EFI/boot/x.efi", true},
		"./a/./b":                 {"a/b", true},
		"../etc/passwd":           {"", false},
		"a/../../etc/passwd":      {"", false},
		`..\..\etc\passwd`:        {"", false},
		"/":                       {"", false},
		"a\nb":                    {"a\nb", false},
		"a\xffb":                  {"a\xffb", false},
		"..a/b..":                 {"..a/b..", true},
		"01-52-54-00-aa-bb-cc.x ": {"01-52-54-00-aa-bb-cc.x ", true},
	}
	for in, want := range tests {
		got, ok := cleanName(in)
		if got != want.want || ok != want.ok {
			t.Errorf("cleanName(%q) = %q, %t, want %q, %t", in, got, ok, want.want, want.ok)
		}
	}
}
