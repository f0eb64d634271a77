package main

import (
	"crypto/md5" // AMT knows no other digest
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strings"
	"sync/atomic"
)

// asrockBoard is one that bmclib's driver knows.
const asrockBoard = `[{"board": {"manufacturer": "ASRockRack", "product_name": "E3C246D4I-NL", "serial_number": "C0FFEE"}}]`

// An asrock is the web interface of a BMC of ASRockRack, as far as bmclib's driver
// goes there.
type asrock struct {
	l        *life
	password atomic.Value // of its user
	on       atomic.Bool
}

// ServeHTTP answers the web interface's own requests. What it refuses it repeats.
func (a *asrock) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const token, cookie = "Asrk7TokenAsrk7Token", "Asrk7CookieAsrk7Cookie"
	a.l.secret("token of a BMC", token)
	a.l.secret("cookie of a BMC", cookie)
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<16))
	at := r.Method + " " + path.Clean(r.URL.Path)
	if !strings.Contains(at, " /api/") { // Redfish: it has none
		w.WriteHeader(http.StatusNotFound)
		repeats(w, string(body)+r.Header.Get("Authorization"))
		return
	}
	if at == "POST /api/session" {
		form, _ := url.ParseQuery(string(body)) // what cannot be read is a wrong password
		a.l.secret("password that a BMC got", form.Get("password"))
		if form.Get("password") != a.password.Load() {
			w.WriteHeader(http.StatusUnauthorized)
			repeats(w, form.Get("password")+a.l.spellings(form.Get("username"), form.Get("password"))+string(body))
			return
		}
		http.SetCookie(w, &http.Cookie{Name: "QSESSIONID", Value: cookie, Path: "/"})
		_ = json.NewEncoder(w).Encode(map[string]any{"ok": 0, "privilege": 4, "CSRFToken": token})
		return
	}
	if r.Header.Get("X-CSRFTOKEN") != token {
		w.WriteHeader(http.StatusUnauthorized)
		repeats(w, string(body)+r.Header.Get("Authorization"))
		return
	}
	switch at {
	case "DELETE /api/session":
	case "GET /api/fru":
		_, _ = io.WriteString(w, asrockBoard)
	case "GET /api/chassis-status":
		status := map[bool]int{true: 1}[a.on.Load()]
		_ = json.NewEncoder(w).Encode(map[string]int{"power_status": status})
	case "POST /api/actions/power":
		var order struct {
			Command int `json:"power_command"`
		}
		_ = json.Unmarshal(body, &order)
		a.on.Store(order.Command == 1)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

//go:embed testdata/amt-power.xml
var amtPower []byte

// An amt is Intel's AMT of a machine that is on. It hears no password, but what
// proves that one is known.
type amt struct {
	l        *life
	password atomic.Value // of its user
}

var digestField = regexp.MustCompile(`(\w+)="?([^",]*)"?`)

// ServeHTTP asks for a digest, and answers who has the right one. What it refuses
// it repeats.
func (a *amt) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const realm, nonce = "Digest:A7", "A7nonceA7nonce"
	said := map[string]string{}
	for _, m := range digestField.FindAllStringSubmatch(r.Header.Get("Authorization"), -1) {
		said[m[1]] = m[2]
	}
	a.l.secret("proof of a password", said["response"])
	hash := func(text string) string { return fmt.Sprintf("%x", md5.Sum([]byte(text))) }
	password, _ := a.password.Load().(string)
	want := hash(hash(said["username"]+":"+realm+":"+password) + ":" + nonce + ":" + said["nc"] + ":" + said["cnonce"] + ":auth:" + hash("POST:/wsman"))
	if said["response"] != want {
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Digest realm=%q,nonce=%q,stale="false",qop="auth"`, realm, nonce))
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, r.Header.Get("Authorization"))
		return
	}
	w.Header().Set("Content-Type", "application/soap+xml; charset=UTF-8")
	_, _ = w.Write(amtPower)
}
