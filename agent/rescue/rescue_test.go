package rescue

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func newKey(t *testing.T) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

func asArgument(key ssh.PublicKey) string {
	return key.Type() + ":" + base64.StdEncoding.EncodeToString(key.Marshal())
}

func TestOnlyTheHoldersOfNamedKeysGetIn(t *testing.T) {
	friend, stranger := newKey(t), newKey(t)
	keys := ParseKeys("nonsense\nssh-rsa:AAAA\n" + asArgument(friend.PublicKey()) + "\nssh-rsa:" +
		base64.StdEncoding.EncodeToString(stranger.PublicKey().Marshal()) + "\n")
	if len(keys) != 1 {
		t.Fatalf("ParseKeys found %d keys, want the good one", len(keys))
	}
	door, err := NewDoor(keys, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // closed with the test
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- door.Serve(ctx, l) }()
	defer func() { cancel(); <-ended }()

	signIn := func(with ...ssh.AuthMethod) (*ssh.Client, error) {
		return ssh.Dial("tcp", l.Addr().String(), &ssh.ClientConfig{User: "root", Auth: with, HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			if got := ssh.FingerprintSHA256(key); got != door.Print {
				t.Errorf("host key %s, the console showed %s", got, door.Print)
			}
			return nil
		}})
	}
	for name, with := range map[string]ssh.AuthMethod{"another key": ssh.PublicKeys(stranger), "a password": ssh.Password("root")} {
		if c, err := signIn(with); err == nil {
			c.Close()
			t.Errorf("%s opened the door", name)
		}
	}
	c, err := signIn(ssh.PublicKeys(friend))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, _, err := c.OpenChannel("direct-tcpip", nil); err == nil {
		t.Error("a guest reaches other machines through this one")
	}
}

func TestScreensAreOneTerminal(t *testing.T) {
	for active, want := range map[string][]string{
		"tty0 ttyS0":         {"tty1", "ttyS0"},
		"ttyS0 ttyAMA0 tty0": {"tty1", "ttyAMA0", "ttyS0"},
		"tty0 tty1\n":        {"tty1"},
		"":                   {},
	} {
		if got := terminals(active); !slices.Equal(got, want) {
			t.Errorf("terminals(%q) = %v, want %v", active, got, want)
		}
	}
}

func TestDisksHaveHardwareBehindThem(t *testing.T) {
	sys := t.TempDir()
	for _, dir := range []string{"sda/device", "loop0", "nvme0n1/device", "ram0"} {
		if err := os.MkdirAll(filepath.Join(sys, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(disks(sys), " "); got != "nvme0n1 sda" {
		t.Errorf("disks = %q, want nvme0n1 sda", got)
	}
}

func TestWhatAGuestAsksForIsBounded(t *testing.T) {
	var term terminal
	for _, payload := range []string{"", "\x00\x00\x00\xffxterm", "\xff\xff\xff\xff"} {
		if term.open([]byte(payload)) == nil || term.resize([]byte(payload)) == nil {
			t.Errorf("%q was taken as a terminal", payload)
		}
	}
}
