package engine

import (
	"sync"

	"github.com/rackstage/provision/fleet"
)

// maxPlaces is how many strangers' places are remembered. Anybody can make up
// MAC addresses: when there are more, some are forgotten.
const maxPlaces = 16384

// places is where strangers are plugged in, as their relays say. They are not
// nodes yet; when their agent says hello, rules may ask for the switch port.
type places struct {
	mu sync.Mutex
	of map[fleet.MAC]fleet.Place
}

func (p *places) note(mac fleet.MAC, at fleet.Place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of == nil {
		p.of = make(map[fleet.MAC]fleet.Place)
	}
	if _, known := p.of[mac]; !known && len(p.of) >= maxPlaces {
		for some := range p.of {
			delete(p.of, some)
			break
		}
	}
	p.of[mac] = at
}

// take returns a place and forgets it: it is the node's from now on.
func (p *places) take(mac fleet.MAC) fleet.Place {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.of[mac]
	delete(p.of, mac)
	return at
}
