package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rackstage/provision/access"
	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab/redfish"
	"github.com/rackstage/provision/store"
)

// A real server lives through a day: a site with passwords, people, a relay, a
// machine whose BMC gets an account, BMCs that fail and succeed, rotations, a
// kill. Then everything that it ever wrote or said is searched for every
// secret that it was given or made.
func TestNoSecretIsEverWrittenOrSaid(t *testing.T) {
	if testing.Short() {
		t.Skip("a day takes 20 s: make test runs it")
	}
	l := startLife(t)
	l.signIn(t)
	l.addRelay(t)
	l.enrol(t)
	l.fail(t)
	l.rotate(t)
	l.ask(t)
	l.stop(t, syscall.SIGKILL)
	l.start(t)
	l.rotate(t)
	l.ask(t)
	l.stop(t, syscall.SIGTERM)
	l.openSealed(t)
	l.search(t)
}

const (
	lifeMAC      = "52:54:00:00:00:01"
	lifePassword = "Person4Person4Person4"
	givenSecret  = "Given1Given1Gvn1"
	factoryWord  = "Factory2Factory2"
	wrongWord    = "Wrong3Wrong3Wro3"
)

const lifeSite = `
stages: [{name: prd}]
profiles: [{name: docker, image: debian-12}]
pools: [{name: prd, stage: prd, profile: docker}]
bmc_accounts: [{username: root, password_file: DIR/factory}]
rules:
  - {name: ours, match: {mac: "52:54:00"}, pool: prd, approve: true, bmc: {driver: redfish, address: 127.0.0.1, https_port: PORT}}
  - {name: given, match: {mac: "52:54:01"}, pool: prd, approve: true, bmc: {username: admin, password_file: DIR/given, driver: redfish, address: 127.0.0.1, https_port: PORT}}
`

// A life is one server's, and what is known of it from outside.
type life struct {
	dir     string
	http    string // address of the boot listener
	https   string
	cmd     *exec.Cmd
	client  *api.Client
	bmc     *redfish.Service
	node    string
	said    bytes.Buffer // answers of the API, and its events
	secrets map[string]string

	mu sync.Mutex // for the BMC's requests
}

// secret notes something that nobody shall ever see.
func (l *life) secret(what, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if text != "" {
		l.secrets[text] = what
	}
}

func startLife(t *testing.T) *life {
	t.Helper()
	dir, err := os.MkdirTemp("", "plife") //nolint:usetesting // sockets need short paths
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l := &life{dir: dir, secrets: map[string]string{}, http: freeAddress(t), https: freeAddress(t)}
	port := l.startBMC(t)
	site := strings.NewReplacer("DIR", dir, "PORT", port).Replace(lifeSite)
	config := fmt.Sprintf("state_dir: %s/state\nlog_level: debug\nlisten: {http: %q, https: %q, socket: %q}\n", dir, l.http, l.https, filepath.Join(dir, "api.sock"))
	for name, text := range map[string]string{
		"site.yaml": site, "provision.yaml": config, "factory": factoryWord, "given": givenSecret + "\n", "person": lifePassword + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for what, text := range map[string]string{"password of a rule": givenSecret, "password that BMCs come with": factoryWord, "password of a person": lifePassword} {
		l.secret(what, text)
	}
	l.run(t, "users", "add", "ada", "--role", "admin", "--password-file", filepath.Join(dir, "person"), "--state-dir", filepath.Join(dir, "state"))
	if err := os.MkdirAll(filepath.Join(dir, "state", "boot"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"vmlinuz", "initrd.img"} {
		if err := os.WriteFile(filepath.Join(dir, "state", "boot", name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l.start(t)
	return l
}

func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// program is this test's own binary, which is provision when it is called so.
func (l *life) program(ctx context.Context, args ...string) *exec.Cmd {
	self, _ := os.Executable() // it runs
	cmd := exec.CommandContext(ctx, self)
	cmd.Args = append([]string{"provision"}, args...)
	return cmd
}

func (l *life) run(t *testing.T, args ...string) {
	t.Helper()
	if out, err := l.program(t.Context(), args...).CombinedOutput(); err != nil {
		t.Fatalf("provision %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func (l *life) start(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(l.dir, "serve.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	l.cmd = l.program(context.WithoutCancel(t.Context()), "serve", "--config", filepath.Join(l.dir, "provision.yaml"), "--site", filepath.Join(l.dir, "site.yaml"))
	l.cmd.Stdout, l.cmd.Stderr = log, log
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	server := l.cmd
	t.Cleanup(func() {
		if server.ProcessState == nil {
			_ = server.Process.Kill()
			_ = server.Wait()
		}
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("serve.log:\n%s", tail(text, 40))
		}
	})
	if l.client, err = api.NewClient(api.ClientOptions{Server: "unix:" + filepath.Join(l.dir, "api.sock")}); err != nil {
		t.Fatal(err)
	}
	until(t, 30*time.Second, "the server answers", func(ctx context.Context) (bool, error) { return l.client.Health(ctx) == nil, nil })
}

func (l *life) stop(t *testing.T, sig syscall.Signal) {
	t.Helper()
	for _, file := range []string{"cmdline", "environ"} {
		b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(l.cmd.Process.Pid), file))
		if err != nil {
			t.Fatal(err)
		}
		l.said.Write(b)
	}
	if err := l.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	_ = l.cmd.Wait() // a signal ended it
}

// startBMC starts a Redfish service behind an ear that hears every password
// and token. What it refuses it repeats, as some do.
func (l *life) startBMC(t *testing.T) (port string) {
	t.Helper()
	l.bmc = redfish.New(redfish.Options{Username: "nobody", Password: rand.Text()[:16]})
	srv := httptest.NewUnstartedServer(l.hears(func() *redfish.Service {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.bmc
	}))
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug) // who is killed hangs up
	srv.StartTLS()
	t.Cleanup(srv.Close)
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u.Port()
}

// hears is a BMC whose visitors' secrets are noted.
func (l *life) hears(service func() *redfish.Service) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { l.serveBMC(service(), w, r) })
}

func (l *life) serveBMC(service *redfish.Service, w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<16))
	var in struct{ UserName, Password string }
	_ = json.Unmarshal(body, &in) // most have none
	l.secret("password that a BMC got", in.Password)
	l.secret("token of a BMC", r.Header.Get("X-Auth-Token"))
	if _, password, ok := r.BasicAuth(); ok {
		l.secret("password that a BMC got", password)
	}
	l.secret("authorization of a BMC", strings.TrimPrefix(r.Header.Get("Authorization"), "Basic "))
	r.Body = io.NopCloser(bytes.NewReader(body))
	answer := httptest.NewRecorder()
	service.ServeHTTP(answer, r)
	maps.Copy(w.Header(), answer.Header())
	if in.Password != "" && answer.Code >= 400 {
		w.Header().Del("Content-Length")
		w.WriteHeader(answer.Code)
		fmt.Fprintf(w, `{"error": {"message": "The value '%s' of user %s is not taken"}}`, in.Password, in.UserName)
		return
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

// become gives the BMC an account, as the agent of its machine would.
func (l *life) become(user, password string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bmc = redfish.New(redfish.Options{Username: user, Password: password})
}

func (l *life) faults(f redfish.Faults) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bmc.SetFaults(f)
}

// web is a client of the TLS listener.
func (l *life) web(cert *tls.Certificate) *http.Client {
	conf := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // the server is ours
	if cert != nil {
		conf.Certificates = []tls.Certificate{*cert}
	}
	return &http.Client{
		Transport:     &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// signIn signs a person in, and somebody with a wrong password.
func (l *life) signIn(t *testing.T) {
	t.Helper()
	for _, password := range []string{wrongWord, lifePassword} {
		form := url.Values{"user": {"ada"}, "password": {password}}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+l.https+"/login", strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Origin", "https://"+l.https)
		resp, err := l.web(nil).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		page, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		l.said.Write(page)
		if cookies := resp.Cookies(); password == lifePassword {
			if len(cookies) == 0 {
				t.Fatalf("signed in with %d and no cookie", resp.StatusCode)
			}
			l.secret("session of a person", cookies[0].Value)
		}
	}
	l.secret("password that is wrong", wrongWord)
}

func (l *life) addRelay(t *testing.T) {
	t.Helper()
	r, err := l.client.AddRelay(t.Context(), api.AddRelay{Name: "edge-1"})
	if err != nil {
		t.Fatal(err)
	}
	l.secret("token of a relay", r.Token)
}

var ticketShape = regexp.MustCompile(`provision\.ticket=(\S+)`)

// enrol is a machine that boots: script, hello, the account for its BMC.
func (l *life) enrol(t *testing.T) {
	t.Helper()
	script := l.get(t, l.web(nil), "http://"+l.http+"/boot/ipxe?mac="+lifeMAC+"&platform=efi&arch=x86_64")
	ticket := ticketShape.FindStringSubmatch(script)
	if ticket == nil {
		t.Fatalf("no ticket in the script:\n%s", script)
	}
	l.secret("boot ticket", ticket[1])
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	var hello api.HelloReply
	l.post(t, l.web(nil), api.PathHello, api.HelloRequest{
		Ticket: ticket[1], BootID: "boot-1", MAC: lifeMAC, CSR: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})),
		Inventory: api.Inventory{Vendor: "Contoso", Serial: "C0FFEE", BMC: api.InventoryBMC{Present: true, Address: "127.0.0.1"}},
	}, &hello)
	l.node = hello.NodeID
	block, _ := pem.Decode([]byte(hello.Certificate))
	agent := l.web(&tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: key})
	step := l.poll(t, agent, nil)
	if step == nil || step.BMC == nil {
		t.Fatalf("the agent got %+v, want an order for an account", step)
	}
	l.secret("password that was made", step.BMC.Password)
	l.become(step.BMC.Username, step.BMC.Password)
	l.poll(t, agent, &api.StepReport{StepID: step.ID, State: "done", BMC: &api.BMCReport{Slot: 5, Channel: 1, Address: "127.0.0.1", Source: "dhcp"}})
	until(t, 20*time.Second, "the account is ours", func(ctx context.Context) (bool, error) {
		n, err := l.client.Node(ctx, l.node)
		return n.Power != nil && n.Power.Username == "provision" && n.Power.Driver == "redfish", err
	})
}

func (l *life) poll(t *testing.T, agent *http.Client, report *api.StepReport) *api.Step {
	t.Helper()
	var reply api.PollReply
	l.post(t, agent, api.PathPoll, api.PollRequest{BootID: "boot-1", Report: report, Wait: 5}, &reply)
	return reply.Step
}

func (l *life) get(t *testing.T, c *http.Client, address string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// post is what an agent says; the answers are for it alone.
func (l *life) post(t *testing.T, c *http.Client, path string, in, out any) {
	t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+l.https+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("POST %s: %s %v %s", path, resp.Status, err, text)
	}
	if err := json.Unmarshal(text, out); err != nil {
		t.Fatal(err)
	}
}

// fail has the BMC misbehave in several ways, and keeps what is said of it.
func (l *life) fail(t *testing.T) {
	t.Helper()
	for name, f := range map[string]redfish.Faults{
		"refuses": {Error: true}, "takes no passwords": {NoPatch: true}, "has no sessions left": {Sessions: 1}, "is broken": {Garbage: redfish.Types}, "shows a page": {Garbage: redfish.HTML},
	} {
		l.faults(f)
		_, err := l.client.RotateBMC(t.Context(), l.node)
		l.note(err)
		state, err := l.client.Power(t.Context(), l.node, api.PowerRequest{Op: "status", Reason: name})
		l.note(err)
		fmt.Fprintln(&l.said, state)
	}
	l.faults(redfish.Faults{})
	l.expire(t)
}

// expire has the password get too old: that has a name, and the next rotation
// ends it.
func (l *life) expire(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	l.bmc.Expire("provision")
	l.mu.Unlock()
	_, err := l.client.Power(t.Context(), l.node, api.PowerRequest{Op: "status"})
	l.note(err)
	if p, ok := errors.AsType[*api.Problem](err); !ok || p.Code != fleet.CodeBMCMustChange {
		t.Errorf("with a password that has to be changed: %v, want %s", err, fleet.CodeBMCMustChange)
	}
}

func (l *life) note(err error) {
	if err != nil {
		fmt.Fprintf(&l.said, "%v %+v %#v\n", err, err, err)
	}
}

func (l *life) rotate(t *testing.T) {
	t.Helper()
	if _, err := l.client.RotateBMC(t.Context(), l.node); err != nil {
		t.Fatalf("rotate the password: %v", err)
	}
	if _, err := l.client.Power(t.Context(), l.node, api.PowerRequest{Op: "status"}); err != nil {
		t.Fatalf("sign in with the new password: %v", err)
	}
	if s, err := l.client.RotateSecrets(t.Context(), api.RotateSecrets{}); err != nil || s.Failed != "" || s.Sealed < 4 {
		t.Fatalf("rotate the sealing key: %+v, %v", s, err)
	}
}

// ask reads everything that the API tells to administrators.
func (l *life) ask(t *testing.T) {
	t.Helper()
	unix := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(l.dir, "api.sock"))
		},
	}}
	document := l.get(t, unix, "http://server"+api.Root+"/openapi.json")
	var paths struct{ Paths map[string]map[string]any }
	if err := json.Unmarshal([]byte(document), &paths); err != nil {
		t.Fatal(err)
	}
	asked := 0
	for path, methods := range paths.Paths {
		if _, ok := methods["get"]; !ok || strings.HasSuffix(path, "/events") {
			continue
		}
		path = strings.NewReplacer("{ref}", l.node, "{pool}", "prd", "{id}", "prd-0001").Replace(path)
		l.said.WriteString(l.get(t, unix, "http://server"+path))
		asked++
	}
	if asked < 15 {
		t.Errorf("only %d routes were asked", asked)
	}
	for _, page := range []string{"/", "/nodes/" + l.node, "/boot"} {
		l.said.WriteString(l.get(t, unix, "http://server"+page))
	}
	l.events(t)
}

// events reads all events that are stored.
func (l *life) events(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	seen := 0
	_ = l.client.Events(ctx, 1, func(e api.Event) error { // until its time is over
		seen++
		fmt.Fprintf(&l.said, "%+v\n", e)
		return nil
	})
	if seen == 0 {
		t.Error("no events were read")
	}
}

// openSealed opens what is left on disk: these are secrets too, and so are the
// keys that open them. The BMCs of some nodes were not listened to.
func (l *life) openSealed(t *testing.T, unheard ...fleet.NodeID) {
	t.Helper()
	state := filepath.Join(l.dir, "state")
	sealer, err := access.OpenSealer(filepath.Join(state, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), filepath.Join(state, "provision.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	w, err := db.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, n := range w.Nodes {
		password, err := openBMC(sealer, n)
		if slices.Contains(unheard, n.ID) {
			l.secret("password of a BMC", string(password))
		}
		if err != nil || l.secrets[string(password)] == "" {
			t.Errorf("the password that is stored was never seen by the BMC: %v", err)
		}
		if n.BMC.Next != (fleet.BMCAccount{}) {
			t.Errorf("a second password is kept for no reason")
		}
	}
	keys, err := os.ReadFile(filepath.Join(state, "keys", "seal.key"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(keys)) {
		_, key, _ := strings.Cut(strings.TrimSpace(line), " ")
		l.secret("sealing key", key)
	}
}

// search looks into everything for every secret, in each form that it may have
// been written in.
func (l *life) search(t *testing.T) {
	t.Helper()
	forms := map[string]string{}
	for secret, what := range l.secrets {
		if len(secret) < 8 {
			t.Fatalf("%s is too short to be searched for", what)
		}
		forms[secret] = what
		forms[base64.StdEncoding.EncodeToString([]byte(secret))[:len(secret)]] = what + " in base64"
		forms[hex.EncodeToString([]byte(secret))] = what + " in hex"
		forms[url.QueryEscape(secret)] = what
	}
	if len(l.secrets) < 10 {
		t.Errorf("only %d secrets are known: %v", len(l.secrets), len(forms))
	}
	look := func(where string, text []byte) {
		for form, what := range forms {
			if bytes.Contains(text, []byte(form)) {
				t.Errorf("%s is in %s", what, where)
			}
		}
		if bytes.Contains(text, []byte("PRIVATE KEY-----")) {
			t.Errorf("a private key is in %s", where)
		}
	}
	look("what the server said", l.said.Bytes())
	files := 0
	given := map[string]bool{"factory": true, "given": true, "person": true, "seal.key": true} // they are for secrets
	err := filepath.WalkDir(l.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || given[d.Name()] {
			return err
		}
		text, err := os.ReadFile(path)
		look(path, text)
		files++
		return err
	})
	if err != nil || files < 5 {
		t.Errorf("looked into %d files: %v", files, err)
	}
	// A search that finds nothing anywhere proves nothing.
	if raw, err := os.ReadFile(filepath.Join(l.dir, "given")); err != nil || !bytes.Contains(raw, []byte(givenSecret)) {
		t.Errorf("the file with the password is not what it was: %v", err)
	}
}
