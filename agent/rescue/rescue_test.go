package rescue

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

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

// openDoor serves keys until the test ends.
func openDoor(t *testing.T, keys ...ssh.PublicKey) (addr string, door *Door) {
	t.Helper()
	door, err := NewDoor(keys, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- door.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err == nil {
			t.Error("Serve = nil, want why it ended")
		}
	})
	return l.Addr().String(), door
}

// signedIn is a guest with a session, of which nothing is asked yet.
func signedIn(t *testing.T) *ssh.Session {
	t.Helper()
	friend := newKey(t)
	addr, _ := openDoor(t, friend.PublicKey())
	c, err := ssh.Dial("tcp", addr, &ssh.ClientConfig{
		User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(friend)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(), //nolint:gosec // another test looks at it
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	guest, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	return guest
}

// terminalsOpen is how many ends of terminals this process holds.
func terminalsOpen(t *testing.T) (n int) {
	t.Helper()
	all, err := filepath.Glob("/proc/self/fd/*")
	if err != nil || len(all) == 0 {
		t.Fatalf("open files: %q, %v", all, err)
	}
	for _, fd := range all {
		if at, _ := os.Readlink(fd); at == "/dev/ptmx" || strings.HasPrefix(at, "/dev/pts/") {
			n++
		}
	}
	return n
}

func TestATerminalThatNobodySitsAtIsClosed(t *testing.T) {
	before := terminalsOpen(t)
	guest := signedIn(t)
	if err := guest.RequestPty("xterm", 25, 80, nil); err != nil {
		t.Fatal(err)
	}
	if got := terminalsOpen(t); got != before+2 {
		t.Fatalf("%d ends of terminals are open, want %d and both of one more", got, before)
	}
	_ = guest.Close()
	for range 500 {
		if terminalsOpen(t) == before {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Errorf("%d ends of terminals are open when the guest has gone, want %d", terminalsOpen(t), before)
}

// What a guest leaves running in the background holds what his command wrote to.
func TestACommandEndsThoughItsChildrenGoOn(t *testing.T) {
	for name, terminal := range map[string]bool{"with a terminal": true, "without one": false} {
		t.Run(name, func(t *testing.T) {
			guest := signedIn(t)
			if terminal {
				if err := guest.RequestPty("xterm", 25, 80, nil); err != nil {
					t.Fatal(err)
				}
			}
			said, err := guest.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			if err := guest.Start("trap '' HUP; sleep 60 & echo $!; exit 3"); err != nil {
				t.Fatal(err)
			}
			child := 0
			if _, err := fmt.Fscan(said, &child); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = syscall.Kill(child, syscall.SIGKILL) })
			err = guest.Wait()
			if exit, ok := errors.AsType[*ssh.ExitError](err); !ok || exit.ExitStatus() != 3 {
				t.Errorf("the command ended with %v, want status 3", err)
			}
			if took := time.Since(begin); took > 20*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

func TestOnlyTheHoldersOfNamedKeysGetIn(t *testing.T) {
	friend, stranger := newKey(t), newKey(t)
	keys := ParseKeys("nonsense\nssh-rsa:AAAA\n" + asArgument(friend.PublicKey()) + "\nssh-rsa:" +
		base64.StdEncoding.EncodeToString(stranger.PublicKey().Marshal()) + "\n")
	if len(keys) != 1 {
		t.Fatalf("ParseKeys found %d keys, want the good one", len(keys))
	}
	addr, door := openDoor(t, keys...)
	signIn := func(with ...ssh.AuthMethod) (*ssh.Client, error) {
		return ssh.Dial("tcp", addr, &ssh.ClientConfig{User: "root", Auth: with, HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
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
