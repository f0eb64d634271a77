package chunk

import (
	"container/list"
	"sync"
)

// kept is the chunks that a node has in memory, packed, for the others of its
// rack. The one that was not asked for longest goes first.
type kept struct {
	mu    sync.Mutex
	most  int64 // bytes
	size  int64
	byID  map[string]*list.Element
	order *list.List // of *keptChunk, the one used last in front
}

type keptChunk struct {
	id     string
	packed []byte
}

func newKept(most int64) *kept {
	return &kept{most: most, byID: map[string]*list.Element{}, order: list.New()}
}

func (k *kept) get(id string) ([]byte, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	e, ok := k.byID[id]
	if !ok {
		return nil, false
	}
	k.order.MoveToFront(e)
	return e.Value.(*keptChunk).packed, true //nolint:forcetypeassert // nothing else is in the list
}

// put keeps a chunk. One that is larger than all there is room for is not.
func (k *kept) put(id string, packed []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.byID[id]; ok || int64(len(packed)) > k.most {
		return
	}
	k.byID[id] = k.order.PushFront(&keptChunk{id, packed})
	k.size += int64(len(packed))
	for k.size > k.most {
		last := k.order.Back()
		old := k.order.Remove(last).(*keptChunk) //nolint:forcetypeassert // likewise
		delete(k.byID, old.id)
		k.size -= int64(len(old.packed))
	}
}
