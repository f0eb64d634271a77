package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/rackstage/provision/access"
	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/cluster/swarm"
	"github.com/rackstage/provision/console"
	"github.com/rackstage/provision/dhcp"
	"github.com/rackstage/provision/dhcp/dhcp6"
	"github.com/rackstage/provision/engine"
	"github.com/rackstage/provision/fleet"
	httpd "github.com/rackstage/provision/http"
	"github.com/rackstage/provision/image"
	"github.com/rackstage/provision/pxe/lessons"
	"github.com/rackstage/provision/pxe/tftp"
	"github.com/rackstage/provision/store"
)

func newServeCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the server: DHCP, TFTP, HTTP boot, API and console",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			conf, err := a.loadConfig(cmd.Flags())
			if err != nil {
				return err
			}
			return a.serve(cmd.Context(), conf)
		},
	}
	addSettings(cmd.Flags(), serverSettings()...)
	return cmd
}

// A station is the server: everything that `provision serve` runs, wired.
type station struct {
	conf      config
	log       *slog.Logger
	store     *store.Store
	sealer    *access.Sealer
	authority *access.Authority
	accounts  *access.Accounts
	relays    *access.Relays
	secrets   *secrets
	images    *image.Store
	engine    *engine.Engine
	power     bmcPower
	consoles  *console.Hub
	dhcp      *dhcp.Server                 // nil without interfaces to serve
	dhcp6     *dhcp6.Server                // likewise
	tree      *tftpTree                    // of files for TFTP, ours and relays'
	web       atomic.Pointer[httpd.Server] // nil until it is made
	lessons   *lessons.Learner             // about the loaders of models
	tftp      *tftp.Server                 // nil without interfaces to serve
	strangers tftp.Strangers               // who ask it and hear nothing
	unheard   unheardTries                 // who ask it and do not hear its answers
}

// leastThreads run Go, on a machine with one core too: the system then lets a
// packet interrupt what takes long, such as leases being merged, which Go does
// after 10 ms only.
const leastThreads = 2

func (a *app) serve(ctx context.Context, conf config) error {
	log := a.logger(conf)
	runtime.GOMAXPROCS(max(leastThreads, runtime.GOMAXPROCS(0)))
	_ = os.Unsetenv(bmc.DebugEnv) // it would have logins of BMCs in our log
	st, err := openStation(ctx, conf, log)
	if err != nil {
		return err
	}
	defer func() {
		if err := st.store.Close(); err != nil { //nolint:contextcheck // it is closed after the end too
			log.ErrorContext(ctx, "store not closed", "err", err)
		}
	}()
	return st.run(ctx)
}

func (a *app) logger(conf config) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(conf.LogLevel)) // was checked with the configuration
	return slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: level}))
}

// openStation opens what is kept on disk and puts the parts together. Nothing
// listens yet.
func openStation(ctx context.Context, conf config, log *slog.Logger) (*station, error) {
	syscall.Umask(0o077) // nothing that the server writes is for others
	for _, dir := range []string{"", "keys", "boot", "private"} {
		if err := os.MkdirAll(filepath.Join(conf.StateDir, dir), 0o700); err != nil {
			return nil, fmt.Errorf("make state directory: %w", err)
		}
	}
	st := &station{conf: conf, log: log}
	st.secrets = &secrets{st: st}
	var err error
	keys := filepath.Join(conf.StateDir, "keys")
	if st.sealer, err = conf.openSealer(os.Getenv("CREDENTIALS_DIRECTORY")); err != nil {
		return nil, err
	}
	if st.authority, err = access.OpenAuthority(keys, st.sealer); err != nil {
		return nil, err
	}
	if st.images, err = image.Open(filepath.Join(conf.StateDir, "images")); err != nil {
		return nil, err
	}
	if st.store, err = store.Open(ctx, filepath.Join(conf.StateDir, "provision.db"), log); err != nil {
		return nil, err
	}
	if st.relays, err = access.OpenRelays(ctx, st.store, st.authority); err != nil {
		return nil, err
	}
	st.accounts = access.NewAccounts(st.store, access.Options{DemoLogin: conf.DemoLogin})
	if err := st.wireEngine(); err != nil {
		return nil, err
	}
	st.lessons = lessons.New(st.engine, st.store, log)
	if err := st.lessons.Load(ctx); err != nil {
		return nil, err
	}
	return st, st.wireDHCP()
}

func (st *station) wireEngine() error {
	ticketKey, err := st.sealer.Derive("boot tickets")
	if err != nil {
		return err
	}
	st.power = bmcPower{bmc: bmc.New(bmc.Options{Log: st.log, Interval: st.conf.BMC.Interval, Limit: st.conf.BMC.Limit}), sealer: st.sealer, site: func() fleet.Site { return st.engine.Site() }}
	st.power.node = func(ref string) (fleet.Node, error) { return st.engine.Node(ref) }
	st.power.renew = func(id fleet.NodeID, addr, pin string) error { return st.engine.RenewedPin(id, addr, pin) }
	if err := st.openConsoles(); err != nil {
		return err
	}
	power := markedPower{st.power, st.consoles}
	// The swarm asks engines on nodes through their agents, which the engine
	// of ours holds the line to.
	cluster := swarm.New(func(ctx context.Context, node fleet.NodeID, r fleet.DockerRequest) (fleet.DockerResponse, error) {
		return st.engine.Docker(ctx, node, r)
	}, func() []fleet.Node { return st.engine.Joining() })
	st.engine = engine.New(engine.Options{
		Store: st.store, Power: power, Prober: power, Vault: power, Accounts: power, Maker: power, Checker: power, Loaders: loaders{st}, Media: medias{st}, Relays: st.relays, Addresses: addresses{st.conf.Advertise}, Images: imageNames{st.images}, Seeds: seeds{},
		Examiner: power, Setup: power, Updater: power, Checkups: st.store, CheckEvery: st.conf.BMC.every(),
		Joiner: cluster, Closer: cluster, Consoles: st.consoles, Log: st.log, TicketKey: ticketKey,
	})
	st.store.SetAlarms(st.engine)
	return nil
}

// run serves until ctx is done. The first service that fails stops the rest.
func (st *station) run(ctx context.Context) error {
	doors, err := st.open() //nolint:contextcheck // a listening socket has no context
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return st.engine.Run(ctx) })
	group.Go(func() error { return st.lessons.Run(ctx) })
	group.Go(func() error {
		select {
		case <-st.engine.Started():
		case <-ctx.Done():
			doors.close()
			return nil
		}
		return st.serve(ctx, doors)
	})
	err = group.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// serve answers the network, now that the world is loaded.
func (st *station) serve(ctx context.Context, doors *doors) error {
	server, err := st.httpServer() //nolint:contextcheck // its handlers have the contexts of their requests
	if err != nil {
		doors.close()
		return err
	}
	if err := st.applySite(ctx); err != nil {
		doors.close()
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	if st.dhcp != nil {
		st.dhcp.SetSubnets(st.withRelays(st.engine.Site().Subnets)) // or it would sort its leases twice
		usual := debug.SetGCPercent(400)                            // a million leases are read, and little of it is garbage
		group.Go(func() error { return st.dhcp.Run(ctx) })
		group.Go(func() error { return st.dhcp6.Run(ctx) })
		group.Go(func() error { return st.followSubnets(ctx) })
		group.Go(func() error { return st.followBootFiles(ctx) })
		group.Go(func() error { return st.watchBMCs(ctx) })
		for _, ready := range []<-chan struct{}{st.dhcp.Ready(), st.dhcp6.Ready()} {
			select {
			case <-ready: // scripts depend on whose address it is that asks
			case <-ctx.Done():
				doors.close()
				return group.Wait()
			}
		}
		debug.SetGCPercent(usual)
		if st.tftp, err = st.tftpServer(); err != nil {
			doors.close()
			return err
		}
		tftpAt := &tftpDoors{interfaces: st.conf.Listen.DHCP, serve: st.tftp.Serve, log: st.log}
		group.Go(func() error { return tftpAt.run(ctx, doors.tftp) })
		group.Go(func() error { return st.strangerWatch().run(ctx) })
	}
	group.Go(func() error { return st.relays.Watch(ctx, st.engine) })
	group.Go(func() error { return st.secrets.watchKeys(ctx) })
	group.Go(func() error { return st.consoles.Run(ctx) })
	group.Go(func() error { return st.followConsoles(ctx) })
	group.Go(func() error { return server.Run(ctx, doors.http) })
	st.log.InfoContext(ctx, "serving", "http", st.conf.Listen.HTTP, "https", st.conf.Listen.HTTPS, "dhcp", st.conf.Listen.DHCP, "ca", st.authority.Fingerprint())
	_, _ = daemon.SdNotify(false, daemon.SdNotifyReady) // without systemd nobody listens
	return group.Wait()
}

// applySite applies the site.yaml that the configuration names.
func (st *station) applySite(ctx context.Context) error {
	if st.conf.Site == "" {
		return nil
	}
	src, err := os.ReadFile(st.conf.Site)
	if err != nil {
		return fmt.Errorf("read site: %w", err)
	}
	site, err := parseSite(st.conf.Site, src) // what we cannot serve of it is an alarm
	if err != nil {
		return err
	}
	if err := st.readFiles(&site); err != nil {
		return err
	}
	_, err = st.engine.Apply(ctx, "provision.yaml", site, false)
	return err
}

// readFiles reads the files that a site names.
func (st *station) readFiles(site *fleet.Site) error {
	if err := readBMCCA(site); err != nil {
		return err
	}
	return sealBMCPasswords(site, st.engine.Site(), st.sealer)
}
