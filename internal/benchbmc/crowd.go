package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"github.com/bougou/go-ipmi/pkg/bmc"
	"github.com/bougou/go-ipmi/pkg/clock"
	"github.com/bougou/go-ipmi/pkg/hal/mock"
	"github.com/bougou/go-ipmi/pkg/server"
	"github.com/bougou/go-ipmi/pkg/transport/udp"

	"github.com/rackstage/provision/lab/redfish"
)

// The account of all BMCs, and what they say when they are there.
const (
	username = "admin"
	password = "Secret123Secret1"
	ready    = "ready\n"
)

// A crowd says which BMCs there shall be.
type crowd struct {
	Kind string
	N    int
	Dir  string // for temporary files
}

// keepBMCs is the process that the BMCs live in, or that has them for children.
// Their machines are on. It ends with its standard input.
func keepBMCs(ctx context.Context, in io.Reader, out io.Writer) error {
	input := json.NewDecoder(in)
	var c crowd
	if err := input.Decode(&c); err != nil {
		return err
	}
	keep := map[string]func(context.Context, crowd, *sync.WaitGroup) error{
		"ipmi": keepReference, "ipmisim": keepSims, "redfish": keepRedfish,
	}[c.Kind]
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	err := keep(ctx, c, &wg)
	if err == nil {
		_, err = io.WriteString(out, ready)
	}
	if err == nil {
		_ = input.Decode(new(any)) // there is no more, until the end
	}
	cancel()
	wg.Wait()
	return err
}

// keepReference is go-ipmi's reference BMC, n times.
func keepReference(ctx context.Context, c crowd, wg *sync.WaitGroup) error {
	for i := range c.N {
		conn, err := udp.Listen(aliveAt(i).String() + ":623")
		if err != nil {
			return fmt.Errorf("start BMC %d: %w", i, err)
		}
		hardware := mock.New()
		if err := hardware.Chassis().SetPower(ctx, true); err != nil {
			return err
		}
		b := bmc.New(bmc.DeviceInfo{IPMIVersion: 0x20}, [16]byte{15: 1}, hardware, bmc.WithClock(clock.Real))
		user, err := b.Users.Add(2, username)
		if err != nil {
			return err
		}
		user.SetPassword([]byte(password))
		user.Enabled = true
		user.ChannelAccess[1] = bmc.UserChannelAccess{MaxPrivilege: bmc.PrivilegeLevelAdministrator, Enabled: true}
		s := server.NewServer(b, conn)
		wg.Go(func() { _ = s.Serve(ctx) })
		wg.Go(func() {
			<-ctx.Done()
			_ = s.Close()
		})
	}
	return nil
}

// keepRedfish is the Redfish service of package lab, n times.
func keepRedfish(ctx context.Context, c crowd, wg *sync.WaitGroup) error {
	for i := range c.N {
		m := new(redfish.Memory)
		if err := m.Do(ctx, redfish.PowerOn); err != nil {
			return err
		}
		s := redfish.New(redfish.Options{Username: username, Password: password, Systems: []redfish.System{{ID: "System.Embedded.1", Machine: m}}})
		v, err := redfish.Listen(ctx, aliveAt(i).String()+":443", s)
		if err != nil {
			return fmt.Errorf("start BMC %d: %w", i, err)
		}
		wg.Go(func() {
			<-ctx.Done()
			_ = v.Close()
		})
	}
	return nil
}

// simConfig is that of one ipmi_sim; %[1]s is its address, %[2]s its folder.
const simConfig = `name "bmc"
set_working_mc 0x20
  startlan 1
    addr %[1]s 623
    priv_limit admin
    allowed_auths_user md5
    allowed_auths_operator md5
    allowed_auths_admin md5
    guid 00000000000000000000000000000001
  endlan
  chassis_control "/bin/sh %[2]s/hook"
  user 1 false "" "" user 1 none md5
  user 2 true "` + username + `" "` + password + `" admin 10 none md5
`

const simCommands = `mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02
mc_enable 0x20
`

// simHook is what ipmi_sim runs: the machine's power and boot device are two
// files beside it. It starts no other program.
const simHook = `cd "${0%/*}" || exit 1
verb=$1; shift
if [ "$verb" = get ]; then
	for name; do value=0; [ ! -r "$name" ] || read -r value <"$name"; echo "$name:$value"; done
else
	echo "$2" >"$1"
fi
`

// keepSims is ipmi_sim, a process for each BMC.
func keepSims(ctx context.Context, c crowd, wg *sync.WaitGroup) error {
	for i := range c.N {
		dir := filepath.Join(c.Dir, "sim"+strconv.Itoa(i))
		if err := os.MkdirAll(filepath.Join(dir, "state"), 0o700); err != nil {
			return err
		}
		for name, text := range map[string]string{
			"lan.conf": fmt.Sprintf(simConfig, aliveAt(i), dir), "commands": simCommands, "hook": simHook, "power": "1\n", "boot": "none\n",
		} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				return err
			}
		}
		cmd := exec.CommandContext(ctx, "ipmi_sim", "-n", "-c", filepath.Join(dir, "lan.conf"), "-f", filepath.Join(dir, "commands"),
			"-s", filepath.Join(dir, "state"))
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("start BMC %d: %w", i, err)
		}
		wg.Go(func() { _ = cmd.Wait() })
	}
	return awaitSims(ctx, c.N)
}

// awaitSims waits until each of them answers.
func awaitSims(ctx context.Context, n int) error {
	for i := range n {
		if err := awaitSim(ctx, aliveAt(i).String()+":623"); err != nil {
			return fmt.Errorf("BMC %d: %w", i, errors.Join(err, ctx.Err()))
		}
	}
	return nil
}
