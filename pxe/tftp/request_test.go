package tftp

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestARequestIsBroughtIntoPinsForm(t *testing.T) {
	tests := map[string]struct {
		in, want string
	}{
		"a plain request":  {"\x00\x01f\x00octet\x00", "\x00\x01f\x00octet\x00"},
		"mode in capitals": {"\x00\x01f\x00OcTeT\x00", "\x00\x01f\x00octet\x00"},
		"option names in capitals": {
			"\x00\x01f\x00octet\x00BLKSIZE\x001024\x00TSize\x000\x00",
			"\x00\x01f\x00octet\x00blksize\x001024\x00tsize\x000\x00",
		},
		"windowsize is left out": {
			"\x00\x01f\x00octet\x00blksize\x001468\x00windowsize\x004\x00",
			"\x00\x01f\x00octet\x00blksize\x001468\x00",
		},
		"a block bigger than a frame":     {"\x00\x01f\x00octet\x00blksize\x008192\x00", "\x00\x01f\x00octet\x00blksize\x001468\x00"},
		"a block that is too small":       {"\x00\x01f\x00octet\x00blksize\x007\x00", "\x00\x01f\x00octet\x00"},
		"a block that is too big":         {"\x00\x01f\x00octet\x00blksize\x0065465\x00", "\x00\x01f\x00octet\x00"},
		"a block that is no number":       {"\x00\x01f\x00octet\x00blksize\x00abc\x00", "\x00\x01f\x00octet\x00"},
		"a negative block":                {"\x00\x01f\x00octet\x00blksize\x00-1\x00", "\x00\x01f\x00octet\x00"},
		"a size that is not asked for":    {"\x00\x01f\x00octet\x00tsize\x004711\x00", "\x00\x01f\x00octet\x00"},
		"an option twice":                 {"\x00\x01f\x00octet\x00blksize\x00600\x00blksize\x00700\x00", "\x00\x01f\x00octet\x00blksize\x00600\x00"},
		"an option without a value":       {"\x00\x01f\x00octet\x00blksize\x00", "\x00\x01f\x00octet\x00"},
		"an unknown option":               {"\x00\x01f\x00octet\x00x\x001\x00", "\x00\x01f\x00octet\x00"},
		"a name with slashes stays as is": {"\x00\x01/a//b\x00octet\x00", "\x00\x01/a//b\x00octet\x00"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r, err := parseRequest([]byte(tt.in))
			if err != nil {
				t.Fatalf("parseRequest: %v", err)
			}
			if got := string(r.bytes()); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
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

func FuzzTheGuardPassesOnOnlyGoodRequests(f *testing.F) {
	f.Add([]byte("\x00\x01snponly.efi\x00octet\x00tsize\x000\x00blksize\x001468\x00windowsize\x004\x00"))
	f.Add([]byte("\x00\x01autoexec.ipxe\x00octet\x00blksize\x001432\x00tsize\x000\x00"))
	f.Add([]byte("\x00\x01/debian-installer/amd64/grub/x86_64-efi/fs.lst\x00octet\x00blksize\x001024\x00tsize\x000\x00"))
	f.Add([]byte("\x00\x02x\x00netascii\x00"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := parseRequest(in)
		if err != nil {
			return
		}
		out := r.bytes()
		again, err := parseRequest(out)
		if err != nil || !bytes.Equal(again.bytes(), out) {
			t.Errorf("what the guard wrote, %q, is not what it reads: %v", out, err)
		}
		if len(out) > maxRequest {
			t.Errorf("a request of %d bytes goes on", len(out))
		}
		for _, o := range r.options {
			var n int
			if _, err := fmt.Sscanf(o.value, "%d", &n); err != nil || n < 0 || n > maxBlock {
				t.Errorf("option %s=%q goes on", o.name, o.value)
			}
		}
		if name, ok := cleanName(r.name); ok && (strings.HasPrefix(name, "/") || strings.Contains("/"+name+"/", "/../")) {
			t.Errorf("name %q became %q", r.name, name)
		}
	})
}
