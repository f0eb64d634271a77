package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/internal/figure"
	ipxescripts "github.com/rackstage/provision/ipxe-scripts"
)

const (
	httpBig    = 60 << 20
	httpScript = "/boot/ipxe?mac={mac}&uuid=9707b47b-0000-4000-8000-000000000001&platform=efi&arch=x86_64"
	// Machines ask from addresses of their own: each as often as a boot does at
	// most, and then the next one takes its place.
	askedByOne = 16
)

// nginx is measured as Debian sets it up, and with open_file_cache, which spares
// it to look for its one file on each request.
const (
	nginxPlain = "nginx"
	nginxOpen  = "nginx+open_file_cache"
)

// httpSection measures a file of 60 MiB for ten clients, beside nginx with
// sendfile.
func httpSection(ctx context.Context, b *bench) ([]figure.Figure, error) {
	a := getArgs{Path: "/boot/big.bin", Clients: 10, For: max(2*time.Second, time.Duration(b.scale(5000))*time.Millisecond), Whole: true}
	r, missing, err := b.beside(ctx, []string{nginxOpen}, a, httpBig, nil)
	gb := func(r httpRound) float64 { return float64(r.Bytes) / 1e9 }
	return []figure.Figure{
		httpFigure(r, missing, nginxOpen, "http-60mib", "60 MiB by HTTP", "GB/s", ">=0.98x", func(r httpRound) float64 { return gb(r) / r.Seconds }),
		httpFigure(r, missing, nginxOpen, "http-60mib-cpu", "60 MiB by HTTP: CPU per byte", "s/GB", "<=1.05x", func(r httpRound) float64 { return r.cpu.Seconds() / gb(r) }),
		httpFailed(r, "http-60mib-failed", "60 MiB by HTTP"),
	}, err
}

// scriptSection measures the scripts of machines beside nginx with one file of
// their size. The machines are nodes that the program knows, each at the address
// that it leases it. Those that have a system boot it: 64 of them, over
// connections that are kept, and all of a hall, each with a connection of its own
// and a fact in its timeline. Those that are new boot the agent, each with a
// ticket of its own, too.
func scriptSection(ctx context.Context, b *bench) ([]figure.Figure, error) {
	var all []figure.Figure
	for _, kind := range []struct {
		name  string
		what  string
		state fleet.State
		each  int
		want  string
		rate  string // aims
		cpu   string
	}{
		{"script", "boot scripts of nodes", fleet.Active, 0, "boots it from disk", ">=1x", "<=1.15x"},
		{"script-each", "boot scripts of a hall's nodes, a connection each", fleet.Active, askedByOne, "boots it from disk", "", ""},
		{"script-ticket", "boot scripts with a ticket each", fleet.Discovered, askedByOne, "provision.ticket=", "", ""},
	} {
		nodes, err := b.hall(ctx, kind.state)
		if err != nil {
			return all, err
		}
		a := getArgs{Path: httpScript, Clients: 64, For: max(2*time.Second, time.Duration(b.scale(5000))*time.Millisecond), Each: kind.each, Lease: true, Most: hallSize, Want: kind.want}
		size, err := b.scriptSize(ctx, a, nodes)
		if err != nil {
			return all, err
		}
		r, missing, err := b.beside(ctx, []string{nginxPlain, nginxOpen}, a, size, nodes)
		cpu := func(r httpRound) float64 { return float64(r.cpu.Microseconds()) / float64(r.Requests) }
		all = append(all,
			httpFigure(r, missing, nginxPlain, kind.name+"-rate", kind.what, "req/s", kind.rate, httpRound.rate),
			httpFigure(r, missing, nginxPlain, kind.name+"-cpu", kind.what+": CPU per request", "us/req", kind.cpu, cpu),
			httpFigure(r, missing, nginxOpen, kind.name+"-rate-open", kind.what, "req/s", "", httpRound.rate),
			httpFigure(r, missing, nginxOpen, kind.name+"-cpu-open", kind.what+": CPU per request", "us/req", "", cpu),
			httpFailed(r, kind.name+"-failed", kind.what),
		)
		if err != nil {
			return all, err
		}
	}
	render, err := b.scriptRender()
	return append(all, render), err
}

// An httpRound is what one server did in one round.
type httpRound struct {
	got
	cpu time.Duration
}

func httpFigure(r map[string][]httpRound, missing map[string]string, peer, name, what, unit, aim string, value func(httpRound) float64) figure.Figure {
	of := func(server string) (values []float64) {
		for _, round := range r[server] {
			values = append(values, value(round))
		}
		return values
	}
	return figure.Figure{Name: name, What: what + " / " + peer, Unit: unit, Aim: aim, Rounds: of("provision"), Peer: peer, PeerRounds: of(peer), Missing: missing[peer]}
}

// httpFailed are the requests that ours did not answer as it should.
func httpFailed(r map[string][]httpRound, name, what string) figure.Figure {
	f := figure.Figure{Name: name, What: what + ": requests that failed", Unit: "req", Aim: "<=0", Each: true}
	for _, round := range r["provision"] {
		f.Rounds = append(f.Rounds, float64(round.Failed))
	}
	return f
}

// beside lets our server and its peers take turns with a file of this size; ours
// knows the nodes of a hall, if there is one.
func (b *bench) beside(ctx context.Context, peers []string, a getArgs, size int64, nodes *hall) (results map[string][]httpRound, missing map[string]string, err error) {
	results = map[string][]httpRound{}
	missing, err = b.alternate(ctx, b.rounds, append([]string{"provision"}, peers...), func(round int, name string) error {
		r, err := b.httpRound(ctx, name, a, size, nodes)
		if err != nil {
			return err
		}
		b.say("%s, round %d, %s: %.0f req/s, %.2f GB/s, %.1f us CPU/req, %d failed %s", nodes.what(), round+1, name, r.rate(),
			float64(r.Bytes)/1e9/r.Seconds, float64(r.cpu.Microseconds())/float64(r.Requests), r.Failed, r.Why)
		if name != "provision" && r.Failed > 0 {
			return fmt.Errorf("%d requests failed: it cannot be compared with: %s", r.Failed, r.Why)
		}
		results[name] = append(results[name], r)
		return nil
	})
	return results, missing, err
}

// httpRound starts a server afresh and puts it under load.
func (b *bench) httpRound(ctx context.Context, name string, a getArgs, size int64, nodes *hall) (r httpRound, err error) {
	err = b.withHTTP(ctx, name, size, nodes, func(l *link, p *process) error {
		before, err := p.cpu()
		if err != nil {
			return err
		}
		a.Server = dhcpServerAddr.Addr()
		if name != "provision" {
			a.Path, a.Want = "/boot/big.bin", ""
		}
		if err := l.load(ctx, a.For+30*time.Second, "http", a, &r.got); err != nil {
			return errors.Join(err, p.alive())
		}
		after, err := p.cpu()
		r.cpu = after - before
		return err
	})
	return r, err
}

// withHTTP calls do while a server is up that has big.bin, of this size.
func (b *bench) withHTTP(ctx context.Context, name string, size int64, nodes *hall, do func(*link, *process) error) (err error) {
	l, err := b.newLink(ctx, "h", dhcpServerAddr, dhcpRelayAddr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	if err := l.stormRoutes(ctx); err != nil {
		return err
	}
	dir, err := b.tempDir("http")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := errors.Join(b.makeBig(filepath.Join(dir, "boot"), size), nodes.copyTo(dir)); err != nil {
		return err
	}
	p, err := l.startHTTP(ctx, name, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	if err := errors.Join(l.httpUp(ctx, p), p.rest(ctx)); err != nil {
		return err
	}
	return do(l, p)
}

func (l *link) startHTTP(ctx context.Context, name, dir string) (*process, error) {
	switch name {
	case nginxPlain:
		return l.startNginx(ctx, dir, "")
	case nginxOpen:
		return l.startNginx(ctx, dir, "open_file_cache max=1000 inactive=1h; open_file_cache_valid 1h; open_file_cache_min_uses 1; open_file_cache_errors on;")
	}
	st, err := l.provision(ctx, dir, hallSite)
	if err != nil {
		return nil, err
	}
	return st.process, nil
}

// startNginx starts nginx with a worker for each core that it has. It writes no log,
// keeps connections, sends a head together with what follows it, and does what
// these settings say besides.
func (l *link) startNginx(ctx context.Context, dir, settings string) (*process, error) {
	p, err := l.b.peer("nginx")
	if err != nil {
		return nil, err
	}
	conf := fmt.Sprintf(`daemon off; user root; worker_processes %[3]d; pid %[1]s/pid; error_log stderr crit;
events { worker_connections 4096; use epoll; multi_accept on; }
http {
  access_log off; default_type application/octet-stream; server_tokens off;
  sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_timeout 65; keepalive_requests 1000000;
  %[2]s
  client_body_temp_path %[1]s/t1; proxy_temp_path %[1]s/t2; fastcgi_temp_path %[1]s/t3; uwsgi_temp_path %[1]s/t4; scgi_temp_path %[1]s/t5;
  server { listen 80 reuseport; root %[1]s; }
}
`, dir, settings, l.b.cores())
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return nil, err
	}
	return l.start(ctx, p.env, p.path, "-p", dir, "-c", file)
}

// httpUp waits until the file was fetched once.
func (l *link) httpUp(ctx context.Context, p *process) error {
	return poll(ctx, 20*time.Second, func() error {
		if err := p.alive(); err != nil {
			return err
		}
		var r got
		a := getArgs{Server: dhcpServerAddr.Addr(), Path: "/boot/big.bin", Clients: 1, For: 200 * time.Millisecond, Whole: true}
		return l.load(ctx, 10*time.Second, "http", a, &r)
	})
}

// scriptSize asks our server how long a script is.
func (b *bench) scriptSize(ctx context.Context, a getArgs, nodes *hall) (size int64, err error) {
	a.Server, a.Clients, a.For = dhcpServerAddr.Addr(), 1, 200*time.Millisecond
	err = b.withHTTP(ctx, "provision", 4, nodes, func(l *link, _ *process) error {
		var r got
		if err := l.load(ctx, 10*time.Second, "http", a, &r); err != nil {
			return err
		}
		size = r.Bytes / int64(r.Requests)
		return nil
	})
	return size, err
}

// scriptRender is how long the filling in of a script takes, in this process:
// CPU of its thread, since others have the machine now and then.
func (b *bench) scriptRender() (figure.Figure, error) {
	f := figure.Figure{Name: "script-render", What: "filling in a boot script", Unit: "ns", Aim: "<=500"}
	scripts, err := ipxescripts.Load()
	if err != nil {
		return f, err
	}
	a := ipxescripts.Agent{
		Title: "prd-01", Server: "10.77.0.1", Kernel: "http://10.77.0.1/boot/vmlinuz", Initrd: "http://10.77.0.1/boot/initrd.img",
		Menu: "http://10.77.0.1/boot/ipxe?mac=52-54-00-12-34-56",
		Args: []string{
			"provision.server=https://10.77.0.1:8443", "provision.ca=sha256:" + strings.Repeat("00ff", 16),
			"provision.ticket=" + strings.Repeat("A", 43), "BOOTIF=01-52-54-00-12-34-56",
		},
	}
	buf, times := make([]byte, 0, 4096), b.scale(1_000_000)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for range b.rounds {
		begin, err := threadCPU()
		if err != nil {
			return f, err
		}
		for range times {
			if _, err := scripts.AppendAgent(buf, a); err != nil {
				return f, err
			}
		}
		end, err := threadCPU()
		if err != nil {
			return f, err
		}
		f.Rounds = append(f.Rounds, float64((end-begin).Nanoseconds())/float64(times))
	}
	return f, nil
}

func threadCPU() (time.Duration, error) {
	var t unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t)
	return time.Duration(t.Nano()), err
}
