package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/rackstage/provision/api"
)

// A server is what the commands ask of a running provision; [api.Client] is
// one.
type server interface {
	Version(ctx context.Context) (api.Version, error)
	AllNodes(ctx context.Context, query string) ([]api.Node, error)
	Node(ctx context.Context, ref string) (api.Node, error)
	Approve(ctx context.Context, ref string) (api.Node, error)
	Power(ctx context.Context, ref string, r api.PowerRequest) (string, error)
	PowerDone(ctx context.Context, ref string) (api.Node, error)
	ProbeBMC(ctx context.Context, ref string, r api.ProbeBMCRequest) (api.Node, error)
	RotateBMC(ctx context.Context, ref string) (api.Node, error)
	CheckBMC(ctx context.Context, ref string, r api.CheckBMCRequest) (api.BMCCheck, error)
	BMCCheck(ctx context.Context, ref string, wait time.Duration) (api.BMCCheck, error)
	BIOS(ctx context.Context, ref string) (api.BIOS, error)
	ApplyBIOS(ctx context.Context, ref string, r api.ApplyBIOSRequest) (api.BIOS, error)
	Firmware(ctx context.Context, ref string) ([]api.FirmwareUpdate, error)
	UpdateFirmware(ctx context.Context, ref string, r api.UpdateFirmwareRequest) ([]api.FirmwareUpdate, error)
	Checkups(ctx context.Context) ([]api.Checkup, error)
	Checkup(ctx context.Context, ref string) (api.Checkup, error)
	Examine(ctx context.Context, ref string) (api.Checkup, error)
	ClearBMCLog(ctx context.Context, ref string) (api.Checkup, error)
	Secrets(ctx context.Context) (api.Secrets, error)
	RotateSecrets(ctx context.Context, r api.RotateSecrets) (api.Secrets, error)
	AcceptPin(ctx context.Context, ref string, r api.AcceptPinRequest) (api.Node, error)
	Rescue(ctx context.Context, ref string, r api.RescueRequest) (api.Node, error)
	Pools(ctx context.Context) ([]api.Pool, error)
	Plan(ctx context.Context, pool string) (api.Plan, error)
	Start(ctx context.Context, pool string, r api.StartRun) (api.Run, error)
	Runs(ctx context.Context) ([]api.Run, error)
	Run(ctx context.Context, id string) (api.Run, error)
	WaitRun(ctx context.Context, id, seen string, wait time.Duration) (api.Run, error)
	Apply(ctx context.Context, request api.ApplyRequest) ([]string, error)
	Alarms(ctx context.Context) ([]api.Alarm, error)
	Subnets(ctx context.Context) (api.SubnetList, error)
	Leases(ctx context.Context, subnet string) ([]api.Lease, error)
	ReleaseLease(ctx context.Context, addr string) (api.Lease, error)
	ImportLeases(ctx context.Context, leases api.ImportLeases) (api.ImportedLeases, error)
	Doctor(ctx context.Context) ([]api.Check, error)
	Events(ctx context.Context, since int64, each func(api.Event) error) error
	Render(ctx context.Context, ref, as string) (api.Rendered, error)
	Templates(ctx context.Context) ([]api.Template, error)
	Relays(ctx context.Context) ([]api.Relay, error)
	AddRelay(ctx context.Context, r api.AddRelay) (api.AddedRelay, error)
	RemoveRelay(ctx context.Context, name string) error
	ConsoleRecords(ctx context.Context, ref string) ([]api.ConsoleRecord, error)
	ConsoleLog(ctx context.Context, ref string, q api.ConsoleQuery) (api.ConsoleLog, error)
	RawConsole(ctx context.Context, ref, record string, w io.Writer) error
	Socket(path string) (address string, client *http.Client, header http.Header)
}

// dial makes a client for the server and asks it once, so that every command
// fails in the same way when there is none.
func (a *app) dial(ctx context.Context) (server, error) {
	conf, err := a.clientConfig()
	if err != nil {
		return nil, err
	}
	addr := a.serverAddress(conf)
	target, err := checkAddress(addr.value)
	if err != nil {
		return nil, err
	}
	client, err := api.NewClient(api.ClientOptions{
		Server: target, TokenFile: conf.Client.TokenFile, CAFile: conf.Client.CAFile, CAPin: conf.Client.CAPin,
	})
	if err != nil {
		return nil, usage(err)
	}
	a.address = target
	short, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	err = client.Health(short)
	if isUnreachable(err) || errors.Is(err, context.DeadlineExceeded) {
		return nil, a.unreachable(addr, err)
	}
	return client, nil // what else is wrong, the command itself will tell
}

const (
	dialTimeout     = 10 * time.Second
	completeTimeout = 2 * time.Second
)

// serverTitle is how the server is called in front of people.
func (a *app) serverTitle() string { return a.address }

// consoleURL is where the console shows what we show; "" when not known.
func (a *app) consoleURL() string {
	if strings.HasPrefix(a.address, "https://") {
		return a.address
	}
	return ""
}

// An address says where the server is and who said so.
type address struct {
	value string
	tried string // what was looked at on the way, for people
}

// serverAddress finds the server: flag, environment, configuration, and at
// last the socket of a server on this machine.
func (a *app) serverAddress(c config) address {
	switch {
	case a.global.server != "":
		return address{value: a.global.server, tried: "--server " + a.global.server}
	case a.getenv("PROVISION_SERVER") != "":
		v := a.getenv("PROVISION_SERVER")
		return address{value: v, tried: "PROVISION_SERVER " + v}
	case c.Client.Server != "":
		return address{value: c.Client.Server, tried: c.Client.Server}
	default:
		return address{value: "unix:" + c.Listen.Socket, tried: "unix:" + c.Listen.Socket}
	}
}

// checkAddress brings an address into the one form that the client takes.
// Plain http is refused: it would carry the token in clear.
func checkAddress(s string) (string, error) {
	switch {
	case strings.HasPrefix(s, "/"):
		return "unix:" + s, nil
	case strings.HasPrefix(s, "unix:"):
		return s, nil
	case !strings.Contains(s, "://"):
		s = "https://" + s
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "https" {
		return "", usagef("server %q is not an address; write unix:PATH or https://HOST:PORT", s)
	}
	return "https://" + u.Host, nil
}

// unreachable explains a failed connection the way people need it: what was
// tried, why it failed, and how there would be a server.
func (a *app) unreachable(addr address, err error) error {
	if untrusted(err) {
		return &exitError{
			code: exitUnreachable, err: fmt.Errorf("cannot trust the server at %s: %s", addr.value, whyUnreachable(err)),
			hint: "give its CA in client.ca_pin of the configuration, or PROVISION_CA_PIN=sha256:…; the server logs it when it starts",
		}
	}
	tried := addr.tried + " (" + whyUnreachable(err) + ")"
	if a.global.server == "" && a.getenv("PROVISION_SERVER") == "" {
		tried += ", PROVISION_SERVER (not set)"
	}
	return &exitError{code: exitUnreachable, err: fmt.Errorf(
		"cannot reach a provision server\n  tried  %s\n  start one:  sudo provision serve        try it without hardware:  sudo provision lab up", tried)}
}

// untrusted reports whether a server answered that we cannot recognise.
func untrusted(err error) bool {
	_, verification := errors.AsType[*tls.CertificateVerificationError](err)
	return verification
}

func whyUnreachable(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "no such file"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, fs.ErrPermission):
		return "permission denied; use sudo"
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer"
	}
	for { // the cause without net/http's words around it
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}

// isUnreachable tells "nobody answered" from an answer that we do not like.
func isUnreachable(err error) bool {
	_, ok := errors.AsType[*api.UnreachableError](err)
	return ok
}
