package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A process is a server under load, with all its children.
type process struct {
	cmd   *exec.Cmd
	group *cgroup
	said  *tail
	ended chan struct{}
	err   error // valid when ended is closed
}

// start runs a server in the server's namespace, pinned to its core,
// counted by a cgroup of its own.
func (l *link) start(ctx context.Context, env []string, argv ...string) (*process, error) {
	group, err := newCgroup(filepath.Base(argv[0]))
	if err != nil {
		return nil, err
	}
	// The shell enters the cgroup and becomes the server: a child that is forked
	// before would not be counted.
	script := `echo $$ > "$1" && shift && exec "$@"`
	args := slices.Concat([]string{"-c", script, "sh", group.procs(), "ip", "netns", "exec", l.server}, l.b.on(serverCPU), argv)
	p := &process{cmd: exec.CommandContext(ctx, "sh", args...), group: group, said: &tail{}, ended: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	p.cmd.Stdout, p.cmd.Stderr = p.said, p.said
	if l.b.keep {
		p.cmd.Stdout, p.cmd.Stderr = l.b.log, l.b.log
	}
	p.cmd.WaitDelay = time.Second // its children may hold the output open
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(err, group.remove())
	}
	go func() { p.err = p.cmd.Wait(); close(p.ended) }()
	return p, nil
}

// alive says why the server is not, with its last words.
func (p *process) alive() error {
	select {
	case <-p.ended:
		return fmt.Errorf("server %w: %v: %s", errGone, p.err, p.said)
	default:
		return nil
	}
}

// cpu is what the server and its children have used, those that have ended
// too.
func (p *process) cpu() (time.Duration, error) { return p.group.cpu() }

// rest waits until the server has done what it does after its start, and has
// next to nothing to do.
func (p *process) rest(ctx context.Context) error {
	before, looked := time.Duration(0), time.Time{}
	return poll(ctx, 20*time.Second, func() error {
		used, err := p.cpu()
		if now := time.Now(); err == nil && now.Sub(looked) > 200*time.Millisecond {
			work, first := used-before, looked.IsZero()
			before, looked = used, now
			if !first && work < 10*time.Millisecond {
				return nil
			}
		}
		return errors.Join(errors.New("the server goes on working without a load"), err)
	})
}

// stop ends the server and its children: gently, then not.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	late := time.NewTimer(10 * time.Second)
	defer late.Stop()
	select {
	case <-p.ended:
	case <-late.C:
	}
	return p.kill()
}

// kill ends all that is in the cgroup at once, as a power cut would.
func (p *process) kill() error {
	err := pollUntil(time.After(5*time.Second), func() error {
		pids, err := p.group.pids()
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		return fmt.Errorf("processes %v do not end", pids)
	})
	if err == nil {
		<-p.ended
	}
	return errors.Join(err, p.group.remove())
}

// A tail keeps the last words of a server.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	const most = 4096
	t.b = append(t.b, b...)
	if n := len(t.b) - most; n > 0 {
		t.b = append(t.b[:0], t.b[n:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.b))
}

// A cgroup counts the CPU of what is in it: version 2, or the cpuacct
// controller of version 1.
type cgroup struct {
	dir   string
	usage func(dir string) (time.Duration, error)
}

func newCgroup(name string) (*cgroup, error) {
	const root = "/sys/fs/cgroup"
	g := &cgroup{dir: root, usage: usageV2}
	if _, err := os.Stat(filepath.Join(root, "cpuacct")); err == nil {
		g = &cgroup{dir: filepath.Join(root, "cpuacct"), usage: usageV1}
	}
	var err error
	g.dir, err = os.MkdirTemp(g.dir, "benchboot-"+name+"-")
	return g, err
}

func (g *cgroup) procs() string { return filepath.Join(g.dir, "cgroup.procs") }

func (g *cgroup) cpu() (time.Duration, error) { return g.usage(g.dir) }

func (g *cgroup) pids() ([]int, error) {
	b, err := os.ReadFile(g.procs())
	if err != nil {
		return nil, err
	}
	var pids []int
	for f := range strings.FieldsSeq(string(b)) {
		pid, err := strconv.Atoi(f)
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// remove waits a little: the last process may still be on its way out.
func (g *cgroup) remove() error {
	return pollUntil(time.After(5*time.Second), func() error { return os.Remove(g.dir) })
}

func usageV1(dir string) (time.Duration, error) {
	b, err := os.ReadFile(filepath.Join(dir, "cpuacct.usage"))
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	return time.Duration(n), err
}

func usageV2(dir string) (time.Duration, error) {
	b, err := os.ReadFile(filepath.Join(dir, "cpu.stat"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "usage_usec "); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			return time.Duration(n) * time.Microsecond, err
		}
	}
	return 0, fmt.Errorf("%s/cpu.stat says nothing of usage_usec", dir)
}
