package redfish

import (
	"crypto/rand"
	"crypto/subtle"
	"net/http"
	"strconv"
	"time"
)

// A session is one login.
type session struct {
	id, token string
	user      string
	used      time.Time
}

const (
	sessions       = "/redfish/v1/SessionService/Sessions"
	sessionTimeout = 30 * time.Minute
	manySessions   = 64 // without Faults.Sessions
	wrongTakes     = 2 * time.Second
)

func (s *Service) sessionResources() map[string]resource {
	return map[string]resource{
		"/redfish/v1/SessionService": {get: func(r *http.Request) (object, error) {
			return item("/redfish/v1/SessionService", "SessionService.v1_1_9.SessionService", "SessionService", "Session Service", object{
				"ServiceEnabled": true, "SessionTimeout": int(sessionTimeout.Seconds()), "Sessions": link(sessions), "Status": fine(),
			}), s.hasSessions(r)
		}},
		sessions: {open: true, get: s.listSessions, post: s.login},
		// The specification allows both.
		sessions + "/Members":   {open: true, post: s.login},
		sessions + "/{session}": {get: s.showSession, remove: s.logout},
	}
}

func (s *Service) hasSessions(r *http.Request) error {
	if s.Faults().BasicOnly {
		return notFound(r.URL.Path)
	}
	return nil
}

func (s *Service) listSessions(r *http.Request) (object, error) {
	if err := s.hasSessions(r); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	var paths []string
	for id := range s.sessions {
		paths = append(paths, sessions+"/"+id)
	}
	return list(sessions, "SessionCollection", "Session Collection", paths), nil
}

// expire ends the sessions that nobody uses: with the lock held.
func (s *Service) expire() {
	for id, it := range s.sessions {
		if time.Since(it.used) > sessionTimeout {
			delete(s.sessions, id)
		}
	}
}

// Sessions returns how many are open.
func (s *Service) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// EndSessions forgets all sessions, as a BMC does that restarts.
func (s *Service) EndSessions() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.sessions)
}

func (s *Service) login(w http.ResponseWriter, r *http.Request, in object) error {
	if err := s.hasSessions(r); err != nil {
		return err
	}
	if s.Faults().NoLogin {
		return refuse(http.StatusInternalServerError, "InternalError", "The request failed due to an internal service error.")
	}
	user := text(in, "UserName")
	if err := s.trust(r, user, text(in, "Password")); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	owing := s.named(user)
	if owing != nil && owing.expired && s.faults.ShutOut {
		return s.mustChange(owing)
	}
	s.expire()
	limit := manySessions
	if s.faults.Sessions > 0 {
		limit = s.faults.Sessions
	}
	if len(s.sessions) >= limit {
		return refuse(http.StatusServiceUnavailable, "SessionLimitExceeded",
			"The session establishment failed due to the number of simultaneous sessions exceeding the limit of the implementation.")
	}
	s.serial++
	s.counts.Logins++
	it := &session{id: strconv.Itoa(s.serial), token: rand.Text(), user: user, used: time.Now()}
	s.sessions[it.id] = it
	w.Header().Set("X-Auth-Token", it.token)
	if !s.faults.NoLocation {
		w.Header().Set("Location", sessions+"/"+it.id)
	}
	o := it.show()
	if owing != nil && owing.expired {
		o["@Message.ExtendedInfo"] = []any{s.mustChange(owing).extended()}
	}
	write(w, http.StatusCreated, o)
	return nil
}

func (it *session) show() object {
	return item(sessions+"/"+it.id, "Session.v1_7_0.Session", it.id, "User Session", object{"UserName": it.user})
}

func (s *Service) showSession(r *http.Request) (object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	it, ok := s.sessions[r.PathValue("session")]
	if !ok {
		return nil, notFound(r.URL.Path)
	}
	return it.show(), nil
}

func (s *Service) logout(r *http.Request) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.sessions[r.PathValue("session")]; !ok {
		return notFound(r.URL.Path)
	}
	delete(s.sessions, r.PathValue("session"))
	return nil
}

// admit checks who asks.
func (s *Service) admit(x resource, r *http.Request, f Faults) error {
	if x.open && (x.post == nil || r.Method == http.MethodPost) {
		return nil
	}
	if token := r.Header.Get("X-Auth-Token"); token != "" {
		user, err := s.knows(token)
		if err != nil {
			return err
		}
		return s.owes(r, user)
	}
	user, password, ok := r.BasicAuth()
	if !ok || f.NoBasic {
		return refuse(http.StatusUnauthorized, "NoValidSession", "There is no valid session established with the implementation.")
	}
	if err := s.trust(r, user, password); err != nil {
		return err
	}
	s.count(func(c *Counts) { c.Logins++ })
	return s.owes(r, user)
}

// trust checks name and password. It takes its time over wrong ones, as BMCs do,
// where an account may have been made elsewhere just now.
func (s *Service) trust(r *http.Request, user, password string) error {
	err := s.verify(user, password)
	if err == nil || s.o.Elsewhere == nil || !s.wait(r, wrongTakes) {
		return err
	}
	return s.verify(user, password)
}

// knows returns whose session a token is of.
func (s *Service) knows(token string) (user string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	for _, it := range s.sessions {
		if subtle.ConstantTimeCompare([]byte(it.token), []byte(token)) == 1 {
			it.used = time.Now()
			return it.user, nil
		}
	}
	return "", refuse(http.StatusUnauthorized, "NoValidSession", "There is no valid session established with the implementation.")
}
