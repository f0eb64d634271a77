package redfish

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	fetchWithin = 30 * time.Second
	largest     = 4 << 30 // of an image
)

// fetch gets an image, in the way that the options say.
func (s *Service) fetch(ctx context.Context, url string) (image string, err error) {
	switch {
	case s.o.Fetch != nil:
		image, err = s.o.Fetch(ctx, url)
	case s.Faults().FetchesURLs:
		image, err = url, s.reach(ctx, url)
	default:
		return url, nil
	}
	if err != nil {
		return "", refuse(http.StatusInternalServerError, "InternalError", "The image could not be fetched: "+err.Error())
	}
	return image, nil
}

// reach reads what is at an address, to the end.
func (s *Service) reach(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, fetchWithin)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return refuse(http.StatusInternalServerError, "InternalError", "The image could not be fetched: "+err.Error())
	}
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := c.Do(r)
	if err == nil {
		defer answer.Body.Close()
		_, err = io.Copy(io.Discard, io.LimitReader(answer.Body, largest))
	}
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("the server says %s", answer.Status)
	}
	if err != nil {
		return refuse(http.StatusInternalServerError, "InternalError", "The image could not be fetched: "+err.Error())
	}
	return nil
}
