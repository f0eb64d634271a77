package agent

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rackstage/provision/agent/docker"
	"github.com/rackstage/provision/agent/fault"
	"github.com/rackstage/provision/agent/retry"
	"github.com/rackstage/provision/api"
)

// ServiceOptions say how the agent of an installed system runs. Empty fields
// get the usual places.
type ServiceOptions struct {
	Config  string // file
	State   string // folder with key and certificates
	Socket  string // of the Docker engine
	Version string
	Log     *slog.Logger
}

// A service is the agent of an installed system.
type service struct {
	ServiceOptions
	client *client
	engine *docker.Engine
}

// Service is the agent of an installed system. It runs until ctx is done; an
// error means that it cannot run at all.
func Service(ctx context.Context, o ServiceOptions) error {
	s, err := openService(o)
	if err != nil {
		return err
	}
	s.Log.Info("agent started", "version", o.Version, "server", s.client.server.String())
	go s.renew(ctx)
	for ctx.Err() == nil {
		p := &poller{
			client: s.client, log: s.Log, version: o.Version, bootID: bootID(), installed: true,
			runner: &runner{doers: s.doers(), log: s.Log},
		}
		if err := p.run(ctx); errors.Is(err, errOutcast) {
			// Nobody restarts an installed system for this. The operator may
			// let the node in again at any time.
			s.Log.Error("server does not accept this node, asking on", "err", err)
			_ = retry.Pause(ctx, time.Minute) // the loop sees to ctx
		}
	}
	return nil
}

func openService(o ServiceOptions) (*service, error) {
	b, err := os.ReadFile(o.Config)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	var config Config
	if err := json.Unmarshal(b, &config); err != nil {
		return nil, fmt.Errorf("read configuration %s: %w", o.Config, err)
	}
	c, err := newClient(config.Server, config.CA, o.Log, setFreeClock)
	if err != nil {
		return nil, fmt.Errorf("read configuration %s: %w", o.Config, err)
	}
	cert, err := tls.LoadX509KeyPair(filepath.Join(o.State, certFile), filepath.Join(o.State, keyFile))
	if err != nil {
		return nil, fmt.Errorf("read this node's certificate: %w", err)
	}
	c.use(&cert)
	return &service{o, c, docker.New(o.Socket)}, nil
}

func (s *service) doers() map[string]doer {
	return map[string]doer{api.StepDocker: s.docker, api.StepJoin: s.join}
}

func (s *service) docker(ctx context.Context, step *api.Step, _ func(int, string)) (outcome, error) {
	request, err := need(step.Docker, step)
	if err != nil {
		return outcome{}, err
	}
	answer, err := s.engine.Do(ctx, *request)
	if err != nil {
		return outcome{}, err
	}
	return outcome{docker: &answer}, nil
}

// join redeems the ticket when the engine is ready, and not before: what comes
// for it is good for a short time only, and is kept nowhere.
func (s *service) join(ctx context.Context, step *api.Step, _ func(int, string)) (outcome, error) {
	ticket, err := need(step.Join, step)
	if err != nil {
		return outcome{}, err
	}
	joined, err := s.engine.Join(ctx, func(ctx context.Context) (api.JoinReply, error) {
		return s.redeem(ctx, ticket.Ticket)
	})
	if err != nil {
		return outcome{}, err
	}
	return outcome{joined: &joined, text: "joined as " + joined.NodeID}, nil
}

// redeem is tried again only while the server is out of reach: the ticket is
// good for one answer.
func (s *service) redeem(ctx context.Context, ticket string) (api.JoinReply, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	var reply api.JoinReply
	var delay retry.Delay
	for {
		err := s.client.call(ctx, api.PathJoin, api.JoinRequest{Ticket: ticket}, &reply, oneCall)
		if err == nil {
			return reply, nil
		}
		if final(err) || retry.Pause(ctx, delay.Next()) != nil {
			return api.JoinReply{}, fault.Errorf(fault.JoinTicket, "redeem the join ticket: %w", err)
		}
	}
}

// setFreeClock sets the clock unless something on this system keeps it.
func setFreeClock(now time.Time) error {
	var tx unix.Timex
	state, err := unix.Adjtimex(&tx)
	if err == nil && state != unix.TIME_ERROR {
		return errors.New("it is kept by NTP here; does the server have the right time?")
	}
	return SetClock(now)
}
