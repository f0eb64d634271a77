// Package docker talks to the Docker engine of this node through its socket,
// by plain HTTP: the few requests that the server may make through us
// ([Allowed]), and the way into a Swarm ([Engine.Join]).
package docker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/rackstage/provision/agent/fault"
	"github.com/rackstage/provision/agent/retry"
	"github.com/rackstage/provision/api"
)

const (
	// DefaultSocket is where Debian's Docker listens.
	DefaultSocket = "/run/docker.sock"

	mostBody = 32 << 20 // /tasks of a large cluster
)

// An Engine is the Docker engine behind a socket.
type Engine struct {
	client  *http.Client
	timeout time.Duration // for it to come up
	root    string        // before the engine's own folders, for tests
}

// New returns the engine behind a socket. It does not have to run yet.
func New(socket string) *Engine {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	return &Engine{client: &http.Client{Transport: &http.Transport{DialContext: dial}}, timeout: 5 * time.Minute}
}

// Ready waits until the engine answers, for some minutes: it starts late on a
// first boot. Asking is what starts it where systemd holds its socket.
func (e *Engine) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	var delay retry.Delay
	for {
		once, stop := context.WithTimeout(ctx, 30*time.Second)
		r, err := e.send(once, api.DockerRequest{Method: http.MethodGet, Path: "/_ping"})
		stop()
		if err == nil && r.Status == http.StatusOK {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("it answers %d", r.Status)
		}
		if retry.Pause(ctx, min(delay.Next(), time.Second)) != nil {
			return fault.Errorf(fault.DockerAway, "wait for Docker: %w", err)
		}
	}
}

// Do sends one request of the server's to the engine, if it may.
func (e *Engine) Do(ctx context.Context, r api.DockerRequest) (api.DockerResponse, error) {
	if err := Allowed(r); err != nil {
		return api.DockerResponse{}, err
	}
	if err := e.Ready(ctx); err != nil {
		return api.DockerResponse{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	answer, err := e.send(ctx, r)
	if err != nil {
		return api.DockerResponse{}, fault.Errorf(fault.DockerAway, "ask Docker: %w", err)
	}
	return answer, nil
}

func (e *Engine) send(ctx context.Context, r api.DockerRequest) (api.DockerResponse, error) {
	req, err := http.NewRequestWithContext(ctx, r.Method, "http://docker"+r.Path, bytes.NewReader(r.Body))
	if err != nil {
		return api.DockerResponse{}, err
	}
	if len(r.Body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := e.client.Do(req)
	if err != nil {
		return api.DockerResponse{}, err
	}
	defer resp.Body.Close() // read to its end
	body, err := io.ReadAll(io.LimitReader(resp.Body, mostBody+1))
	if err != nil {
		return api.DockerResponse{}, err
	}
	if len(body) > mostBody {
		return api.DockerResponse{}, errors.New("the answer is longer than 32 MiB")
	}
	return api.DockerResponse{Status: resp.StatusCode, Body: body}, nil
}

// call sends JSON and reads JSON; answers of 300 and more are errors that
// carry the engine's own words.
func (e *Engine) call(ctx context.Context, method, path string, in, out any) error {
	r := api.DockerRequest{Method: method, Path: path}
	if in != nil {
		var err error
		if r.Body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	answer, err := e.send(ctx, r)
	if err != nil {
		return err
	}
	if answer.Status >= http.StatusMultipleChoices {
		var said struct{ Message string }
		_ = json.Unmarshal(answer.Body, &said)
		return fmt.Errorf("docker answers %d: %.300s", answer.Status, said.Message)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer.Body, out)
}
