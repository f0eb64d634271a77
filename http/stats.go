package http

import (
	"sync/atomic"

	"github.com/rackstage/provision/http/bootfile"
)

// Stats are what the boot listener counted since the start.
type Stats struct {
	Requests int64 // that reached it whole
	Files    int64 // answers with a boot file, or a part of one
	Chunks   int64 // of images
	Scripts  int64
	Links    int64 // one-use URLs that were used
	Media    int64 // answers with a CD image, or a part of one

	NotFound        int64
	BadMethods      int64 // neither GET nor HEAD
	BadRequests     int64 // that are not HTTP
	HeadersTooLarge int64
	SlowHeaders     int64 // connections closed because a request did not end
	IdleClosed      int64 // connections closed because no request came
	StalledReaders  int64 // connections closed because nobody read the answer
	TicketsRefused  int64 // too many of one address
	OthersNamed     int64 // requests that named another machine than the one that holds the address
	MediaRefused    int64 // CD images of boots that are over, or made up
	LinksRefused    int64 // used up, expired, of another address, or made up
	ConnsOfAddress  int64 // connections refused: too many of one address, or of 64 bits of IPv6, and all of them of use
	ConnsInAll      int64 // connections refused: too many, and all of them of use
	ConnsGaveWay    int64 // idle connections closed for new ones when there were too many
	ConnsPushedOut  int64 // busy ones, too: of machines that did not take their answer, or held far more than others
	Panics          int64

	Conns int64 `metric:"gauge"` // that there are now
}

type counters struct {
	requests, files, chunks, scripts, links, media atomic.Int64
	notFound, badMethods, ticketsRefused, panics   atomic.Int64
	linksRefused, mediaRefused, othersNamed        atomic.Int64
	ends                                           bootfile.Ends
}

// BootStats returns the counters of the boot listener.
func (s *Server) BootStats() Stats {
	c := &s.counts
	ofAddr, inAll := s.bootDoor.Refused()
	gaveWay, pushedOut := s.bootDoor.GaveWay()
	return Stats{
		Requests: c.requests.Load(), Files: c.files.Load(), Chunks: c.chunks.Load(), Scripts: c.scripts.Load(), Links: c.links.Load(), Media: c.media.Load(),
		NotFound: c.notFound.Load(), OthersNamed: c.othersNamed.Load(), BadMethods: c.badMethods.Load(), BadRequests: c.ends.BadRequests.Load(), HeadersTooLarge: c.ends.HeadersTooLarge.Load(),
		SlowHeaders: c.ends.SlowHeaders.Load(), IdleClosed: c.ends.IdleClosed.Load(), StalledReaders: c.ends.StalledReaders.Load(),
		TicketsRefused: c.ticketsRefused.Load(), LinksRefused: c.linksRefused.Load(), MediaRefused: c.mediaRefused.Load(),
		ConnsOfAddress: ofAddr, ConnsInAll: inAll, ConnsGaveWay: gaveWay, ConnsPushedOut: pushedOut, Panics: c.panics.Load(),
		Conns: int64(s.bootDoor.Held()),
	}
}
