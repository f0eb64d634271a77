// Command agent is provision's program on a node, one static binary with
// three lives: the first process of the ramdisk that installs a machine, the
// agent that it starts there, and the service of the installed system.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/rackstage/provision/agent"
	"github.com/rackstage/provision/agent/docker"
	"github.com/rackstage/provision/agent/ramdisk"
)

const usage = `usage: provision-agent service [--config FILE] [--state DIR] [--docker SOCKET]
       provision-agent version

As /init of a ramdisk it needs no arguments: it takes them from the kernel
command line.
`

// version is set by the linker.
var version = "development"

func main() {
	switch {
	case os.Getpid() == 1 && os.Args[0] == "/init":
		ramdisk.Supervise("/init", "ramdisk")
	case ramdisk.IsModprobe(os.Args):
		if ramdisk.Modprobe(os.Args) != nil {
			os.Exit(1) // the kernel sees for itself whether the module is there
		}
		return
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch {
	case len(args) == 1 && args[0] == "version":
		fmt.Fprintln(stdout, version)
		return 0
	case len(args) == 1 && args[0] == "ramdisk" && inRamdisk():
		debug.SetMemoryLimit(192 << 20) // of the 512 MiB that a node may have, drivers included
		agent.Ramdisk(ctx, version)
		return 1
	case len(args) > 0 && args[0] == "service":
		return service(ctx, args[1:], stderr)
	}
	fmt.Fprint(stderr, usage)
	return 2
}

// inRamdisk reports whether the first process is this program too. Anywhere
// else the ramdisk's agent would restart somebody's machine.
func inRamdisk() bool {
	first, err1 := os.Stat("/proc/1/exe")
	self, err2 := os.Stat("/proc/self/exe")
	return err1 == nil && err2 == nil && os.SameFile(first, self)
}

func service(ctx context.Context, args []string, stderr io.Writer) int {
	flags := flag.NewFlagSet("service", flag.ContinueOnError)
	flags.SetOutput(stderr)
	o := agent.ServiceOptions{Version: version, Log: slog.New(slog.NewTextHandler(stderr, nil))}
	flags.StringVar(&o.Config, "config", agent.ConfigFile, "which server")
	flags.StringVar(&o.State, "state", agent.StateDir, "key and certificates")
	flags.StringVar(&o.Socket, "docker", docker.DefaultSocket, "socket of the Docker engine")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if err := agent.Service(ctx, o); err != nil {
		fmt.Fprintf(stderr, "provision-agent: %v\n", err)
		return 1
	}
	return 0
}
