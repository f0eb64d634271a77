package lessons

import (
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/pxe"
)

const (
	maxLessons = 4096 // models; more are invented by somebody
	maxAlone   = 4096 // machines that nobody has approved
	lessonsAt  = 64   // stored at a time
)

// A book is what boots have taught. What is known of models, which only
// approved nodes teach, is to be stored; what is known of a machine alone is
// not: anybody can invent machines.
type book struct {
	models map[string]fleet.Lesson // by key
	alone  map[string]fleet.Lesson
	dirty  map[string]bool // models that have changed since they were stored
}

func newBook() book {
	return book{models: map[string]fleet.Lesson{}, alone: map[string]fleet.Lesson{}, dirty: map[string]bool{}}
}

// of returns the lesson about a model; an empty one when there is none yet.
func (b *book) of(model fleet.Quirk) (fleet.Lesson, bool) {
	fresh := fleet.Lesson{Model: model}
	for _, known := range []map[string]fleet.Lesson{b.models, b.alone} {
		if lesson, ok := known[fresh.Key()]; ok {
			return lesson, true
		}
	}
	return fresh, false
}

// keep puts a lesson in. When there are too many of machines alone, another one
// makes room.
func (b *book) keep(l fleet.Lesson) {
	key := l.Key()
	if !pxe.IsModel(l.Model) {
		if _, known := b.alone[key]; !known && len(b.alone) >= maxAlone {
			for some := range b.alone {
				delete(b.alone, some)
				break
			}
		}
		b.alone[key] = l
		return
	}
	if _, known := b.models[key]; known || len(b.models) < maxLessons {
		b.models[key], b.dirty[key] = l, true
	}
}

// take returns some of the lessons that are to be stored. However many boots
// there were, each model is stored once.
func (b *book) take() []fleet.Lesson {
	var out []fleet.Lesson
	for key := range b.dirty {
		if len(out) >= lessonsAt {
			break
		}
		out = append(out, b.models[key])
		delete(b.dirty, key)
	}
	return out
}
