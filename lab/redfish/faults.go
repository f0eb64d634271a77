package redfish

import (
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"time"
)

// Faults are the ways in which services differ from the schemas, and in which
// they fail. The zero value is a service without fault. They can be written to
// a file as JSON.
type Faults struct {
	// Power.
	Slow       time.Duration `json:"slow,omitempty"`       // a reset is acknowledged, and happens this much later
	Transition bool          `json:"transition,omitempty"` // meanwhile PoweringOn or PoweringOff are shown
	Lying      bool          `json:"lying,omitempty"`      // a reset is answered with 204, and nothing happens
	Swallow    int           `json:"swallow,omitempty"`    // so many resets are answered with 204 and forgotten
	Error      bool          `json:"error,omitempty"`      // a reset is answered with 500
	Strict     bool          `json:"strict,omitempty"`     // a reset to what is already so is answered with 409
	NoNMI      bool          `json:"no_nmi,omitempty"`     // 501
	SoftFails  bool          `json:"soft_fails,omitempty"` // a shutdown is begun, and answered with 500

	// Boot override.
	NoPatch          bool `json:"no_patch,omitempty"`           // a PATCH of anything is answered with 405
	OnceIsContinuous bool `json:"once_is_continuous,omitempty"` // Once is shown as Continuous
	HTTPNeedsURL     bool `json:"http_needs_url,omitempty"`     // UefiHttp without a URL is taken for Pxe
	RefusesStaleURL  bool `json:"refuses_stale_url,omitempty"`  // a URL without UefiHttp is answered with 400
	NoMode           bool `json:"no_mode,omitempty"`            // the boot mode is neither shown nor taken
	BootNeedsOff     bool `json:"boot_needs_off,omitempty"`     // of a machine that is on, the override is answered with 204 and forgotten
	LyingBoot        bool `json:"lying_boot,omitempty"`         // the override is answered with 204 and forgotten
	FetchesURLs      bool `json:"fetches_urls,omitempty"`       // URLs of media and boot are fetched at once; 500 when that fails
	NeedsETag        bool `json:"needs_etag,omitempty"`         // a PATCH without If-Match is answered with 428

	// Updates of firmware.
	NoUpdate    bool          `json:"no_update,omitempty"`    // there is no SimpleUpdate
	UpdateFails bool          `json:"update_fails,omitempty"` // a task ends with Exception
	UpdateWaits bool          `json:"update_waits,omitempty"` // a version counts from the machine's next start on
	UpdateMute  bool          `json:"update_mute,omitempty"`  // an update is begun, and the line cut before the answer
	SlowTask    time.Duration `json:"slow_task,omitempty"`    // a task takes this much longer
	LosesTasks  bool          `json:"loses_tasks,omitempty"`  // a task that is over is forgotten
	NoTasks     bool          `json:"no_tasks,omitempty"`     // tasks are neither listed nor named

	// What there is.
	BasicOnly  bool `json:"basic_only,omitempty"`  // no sessions
	NoBasic    bool `json:"no_basic,omitempty"`    // sessions only
	Sessions   int  `json:"sessions,omitempty"`    // no more than this many; those of iDRAC are 8
	NoLogin    bool `json:"no_login,omitempty"`    // a new session is answered with 500
	NoLocation bool `json:"no_location,omitempty"` // a new session says in its body alone where it is
	NewOnly    bool `json:"new_only,omitempty"`    // the chassis has sensors and subsystems only: neither Thermal nor Power
	NoLogs     bool `json:"no_logs,omitempty"`
	LogSticks  bool `json:"log_sticks,omitempty"` // to clear the log is answered with 204, and then it cannot be read
	NoAccounts bool `json:"no_accounts,omitempty"`
	Page       int  `json:"page,omitempty"` // a collection is shown so many members at a time

	// Accounts.
	NoNewAccounts bool `json:"no_new_accounts,omitempty"` // none can be made: neither by POST nor in a slot
	ShutOut       bool `json:"shut_out,omitempty"`        // who has to change the password gets no session either
	QuietChange   bool `json:"quiet_change,omitempty"`    // it is not said which account's password that is
	BodyETag      bool `json:"body_etag,omitempty"`       // ETags are in the resources only, not in the header
	LyingPassword bool `json:"lying_password,omitempty"`  // a new password is answered with 200 and forgotten
	BornExpired   bool `json:"born_expired,omitempty"`    // an account that somebody else made has to change its password

	// The wire.
	Deaf     bool          `json:"deaf,omitempty"`     // connections are accepted, and not read
	Hangs    bool          `json:"hangs,omitempty"`    // requests are read, and not answered
	Rest     time.Duration `json:"rest,omitempty"`     // who comes sooner after somebody else is answered with 503
	Delay    time.Duration `json:"delay,omitempty"`    // each answer comes this much later
	Redirect string        `json:"redirect,omitempty"` // each request is sent on to this URL, or to itself when "loop"
	Garbage  Garbage       `json:"garbage,omitempty"`  // what comes in place of each answer
	OldTLS   bool          `json:"old_tls,omitempty"`  // TLS 1.2 at most
}

// Garbage is what a hostile or broken service answers.
type Garbage string

// The kinds of garbage.
const (
	Huge      Garbage = "huge"      // JSON without an end
	Deep      Garbage = "deep"      // JSON that is nested deeper than a parser's stack
	Truncated Garbage = "truncated" // ends in the middle, though the length says otherwise
	HTML      Garbage = "html"      // a login page, with status 200
	Empty     Garbage = "empty"     // status 200 and nothing
	Types     Garbage = "types"     // JSON in which everything has another type
	Trickle   Garbage = "trickle"   // a byte now and then, without end
	Headers   Garbage = "headers"   // headers without end
	Members   Garbage = "members"   // a collection with a million members, each of which is itself
)

// AllGarbage is every kind.
func AllGarbage() []Garbage {
	return []Garbage{Huge, Deep, Truncated, HTML, Empty, Types, Trickle, Headers, Members}
}

// most is how much garbage is written at most, to a client that takes it all.
const most = 1 << 30

// endless repeats a text.
type endless struct {
	text string
	at   int
}

// Read fills b.
func (e *endless) Read(b []byte) (int, error) {
	n := 0
	for n < len(b) {
		c := copy(b[n:], e.text[e.at:])
		n += c
		e.at = (e.at + c) % len(e.text)
	}
	return n, nil
}

// write answers with garbage, until the client has had enough.
func (g Garbage) write(w http.ResponseWriter, r *http.Request, stop <-chan struct{}) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	pour := func(text string) { _, _ = io.Copy(w, io.LimitReader(&endless{text: text}, most)) }
	say := func(text string) { _, _ = io.WriteString(w, text) }
	switch g {
	case Huge:
		say(`{"@odata.id":"/redfish/v1","Name":"`)
		pour("aaaaaaaaaaaaaaaa")
	case Deep:
		say(strings.Repeat(`{"Members":[`, 1<<20))
	case Truncated:
		h.Set("Content-Length", "4096")
		say(`{"@odata.id":"/redfish/v1","Systems":{"@odata.`)
	case HTML:
		h.Set("Content-Type", "text/html")
		say("<!DOCTYPE html><title>Log in</title>")
	case Empty:
	case Types:
		say(`{"@odata.id":{"a":1},"Systems":"none","Members":7,"PowerState":[true],"Boot":"no","Id":3.5,"Links":[],"SessionService":null,"Actions":-1}`)
	case Trickle:
		trickle(w, r, stop)
	case Headers:
		headers(w)
	case Members:
		say(`{"@odata.id":"` + r.URL.EscapedPath() + `","Members":[`)
		pour(`{"@odata.id":"` + r.URL.EscapedPath() + `"},`)
	}
}

func trickle(w http.ResponseWriter, r *http.Request, stop <-chan struct{}) {
	t := time.NewTicker(100 * time.Millisecond)
	defer t.Stop()
	for range most {
		if _, err := io.WriteString(w, " "); err != nil {
			breakOff()
		}
		_ = http.NewResponseController(w).Flush()
		select {
		case <-t.C:
		case <-r.Context().Done():
			breakOff()
		case <-stop:
			breakOff()
		}
	}
}

// headers writes past net/http, which would collect them first.
func headers(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\n"); err == nil {
		_, _ = io.Copy(conn, io.LimitReader(&endless{text: "X-More: " + strings.Repeat("a", 80) + "\r\n"}, most))
	}
}

// version is the newest TLS that the service speaks.
func (f Faults) version() uint16 {
	if f.OldTLS {
		return tls.VersionTLS12
	}
	return tls.VersionTLS13
}
