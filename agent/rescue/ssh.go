package rescue

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	mostGuests = 8 // at a time
	knockTime  = 20 * time.Second

	// What a command left running may still say something, but holds nobody up.
	lingerTime = time.Second
)

// ParseKeys reads keys as the kernel's command line has them, one a line:
// "ssh-ed25519:AAAA…". What is none is left out.
func ParseKeys(lines string) (keys []ssh.PublicKey) {
	for line := range strings.Lines(lines) {
		kind, text, _ := strings.Cut(strings.TrimSpace(line), ":")
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			continue
		}
		if key, err := ssh.ParsePublicKey(raw); err == nil && key.Type() == kind {
			keys = append(keys, key)
		}
	}
	return keys
}

// A Door lets the holders of keys in.
type Door struct {
	config *ssh.ServerConfig
	log    *slog.Logger
	// Print is the fingerprint of its host key, which is made anew at each boot.
	Print string
}

// NewDoor makes a door for keys.
func NewDoor(keys []ssh.PublicKey, log *slog.Logger) (*Door, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	host, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return nil, err
	}
	allowed := map[string]bool{}
	for _, key := range keys {
		allowed[string(key.Marshal())] = true
	}
	config := &ssh.ServerConfig{
		MaxAuthTries: 6,
		PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if allowed[string(key.Marshal())] {
				return &ssh.Permissions{}, nil
			}
			return nil, errors.New("this key is not known here")
		},
	}
	config.AddHostKey(host)
	return &Door{config, log, ssh.FingerprintSHA256(host.PublicKey())}, nil
}

// Serve lets people in by l until ctx is done.
func (d *Door) Serve(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	guests := make(chan struct{}, mostGuests)
	for {
		conn, err := l.Accept()
		if err != nil {
			return fmt.Errorf("wait for guests: %w", errors.Join(err, ctx.Err()))
		}
		select {
		case guests <- struct{}{}:
			go func() {
				defer func() { <-guests }()
				d.receive(ctx, conn)
			}()
		default:
			_ = conn.Close()
		}
	}
}

func (d *Door) receive(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	_ = conn.SetDeadline(time.Now().Add(knockTime))
	guest, channels, requests, err := ssh.NewServerConn(conn, d.config)
	if err != nil {
		d.log.Warn("ssh refused", "addr", conn.RemoteAddr(), "err", err)
		return
	}
	_ = conn.SetDeadline(time.Time{})
	d.log.Info("signed in by ssh", "addr", conn.RemoteAddr())
	go ssh.DiscardRequests(requests)
	for c := range channels {
		if c.ChannelType() != "session" {
			_ = c.Reject(ssh.UnknownChannelType, "there are only sessions here")
			continue
		}
		channel, asks, err := c.Accept()
		if err != nil {
			break
		}
		go session(ctx, channel, asks)
	}
	_ = guest.Close()
}

// session serves one shell, or one command.
func session(ctx context.Context, channel ssh.Channel, asks <-chan *ssh.Request) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer channel.Close()
	var term terminal
	var over <-chan uint32
	defer func() {
		if over == nil {
			term.close()
		}
	}()
	for {
		select {
		case ask, ok := <-asks:
			if !ok {
				return // the guest has gone; what he started ends with ctx
			}
			started := over != nil
			good := false
			switch ask.Type {
			case "pty-req":
				good = !started && term.open(ask.Payload) == nil
			case "window-change":
				good = term.resize(ask.Payload) == nil
			case "shell", "exec":
				if good = !started; good {
					over = run(ctx, channel, &term, ask)
				}
			}
			if ask.WantReply {
				_ = ask.Reply(good, nil)
			}
		case status := <-over:
			_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
			return
		}
	}
}

// run starts what a guest asks for, and returns how it ends.
func run(ctx context.Context, channel ssh.Channel, term *terminal, ask *ssh.Request) <-chan uint32 {
	var commands []string
	var exec struct{ Command string }
	if ask.Type == "exec" && ssh.Unmarshal(ask.Payload, &exec) == nil {
		commands = append(commands, exec.Command)
	}
	over := make(chan uint32, 1)
	cmd := login(ctx, term.kind, commands...)
	if ask.Type == "exec" {
		cmd.Args = append([]string{shell}, cmd.Args[2:]...) // no greeting
	}
	cmd.WaitDelay = lingerTime
	go func() {
		err := error(nil)
		if term.master != nil {
			err = term.run(cmd, channel)
		} else {
			cmd.Stdout, cmd.Stderr = channel, channel.Stderr()
			var in io.WriteCloser
			if in, err = cmd.StdinPipe(); err == nil {
				go func() { _, _ = io.Copy(in, channel); _ = in.Close() }()
				err = cmd.Run()
			}
		}
		status := uint32(0)
		if err != nil {
			status = 1
			if cmd.ProcessState != nil {
				status = uint32(cmd.ProcessState.ExitCode()) //nolint:gosec // 0 to 255, or -1 when it was killed
			}
		}
		over <- status
	}()
	return over
}
