package agent

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A machine whose battery is dead comes up in another year, and no
// certificate is good then. So when the server's certificate fails by its
// dates, and by nothing else, one connection is made that does not look at
// our clock. Its only use is to read the time that the server says, and that
// is taken only if it lies within the dates of the server's own certificates.
// Then everything is checked as always. Whoever could lie to us this way
// holds the server's key, and can move our clock only to where that key was
// good.

// tolerance is how far the clock may be off: the Date of an HTTP answer has
// whole seconds, and certificates start a little in the past.
const tolerance = 30 * time.Second

// askTime returns the server's time, checked against its certificates.
func askTime(ctx context.Context, server *url.URL, pin Pin) (time.Time, error) {
	var from, until time.Time
	config := pin.config(server.Hostname(), func(chain []*x509.Certificate) time.Time {
		from, until = validity(chain)
		return from
	})
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, server.JoinPath("/").String(), nil)
	if err != nil {
		return time.Time{}, fmt.Errorf("ask the server for the time: %w", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return time.Time{}, fmt.Errorf("ask the server for the time: %w", err)
	}
	_ = resp.Body.Close() // a HEAD has none
	now, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return time.Time{}, fmt.Errorf("ask the server for the time: %w", err)
	}
	if now.Before(from) || now.After(until) {
		return time.Time{}, fmt.Errorf("the server says it is %v, but its certificate is good from %v until %v", now, from, until)
	}
	return now, nil
}

// validity is the time in which all certificates of a chain are good.
func validity(chain []*x509.Certificate) (from, until time.Time) {
	for i, c := range chain {
		if i == 0 || c.NotBefore.After(from) {
			from = c.NotBefore
		}
		if i == 0 || c.NotAfter.Before(until) {
			until = c.NotAfter
		}
	}
	return from, until
}

// SetClock sets the system's clock and, where there is one, the hardware's.
func SetClock(t time.Time) error {
	tv := unix.NsecToTimeval(t.UnixNano())
	if err := unix.Settimeofday(&tv); err != nil {
		return fmt.Errorf("set clock: %w", err)
	}
	rtc, err := os.OpenFile("/dev/rtc0", os.O_WRONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("set hardware clock: %w", err)
	}
	defer rtc.Close() // set by ioctl
	u := t.UTC()
	err = unix.IoctlSetRTCTime(int(rtc.Fd()), &unix.RTCTime{
		Sec: int32(u.Second()), Min: int32(u.Minute()), Hour: int32(u.Hour()),
		Mday: int32(u.Day()), Mon: int32(u.Month()) - 1, Year: int32(u.Year()) - 1900,
	})
	if err != nil {
		return fmt.Errorf("set hardware clock: %w", err)
	}
	return nil
}
