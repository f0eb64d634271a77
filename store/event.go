package store

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/store/sqlite3"
)

type eventRow struct {
	Seq   int64 `gorm:"primaryKey;autoIncrement:false"`
	At    int64
	Type  string
	Node  string
	Pool  string
	Run   string
	Actor string
	Text  string
}

func (eventRow) TableName() string { return "events" }

// An eventWriter adds events that come alone: the facts of a hall that boots.
type eventWriter struct {
	c      *sqlite3.Conn
	insert *sqlite3.Stmt
}

func (s *Store) openEventWriter() (*eventWriter, error) {
	c, err := s.openDirect()
	if err != nil {
		return nil, err
	}
	insert, err := c.Prepare("INSERT INTO events (seq, at, type, node, pool, run, actor, text) VALUES (?, ?, ?, ?, ?, ?, ?, ?)")
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return &eventWriter{c, insert}, nil
}

func (w *eventWriter) close() error {
	w.insert.Close()
	return w.c.Close()
}

func (w *eventWriter) append(events []fleet.Event) error {
	for i := range events {
		e := &events[i]
		w.insert.SetInt(1, e.Seq)
		w.insert.SetInt(2, toNano(e.At))
		for n, text := range [6]string{string(e.Type), string(e.Node), string(e.Pool), string(e.Run), e.Actor, e.Text} {
			w.insert.SetText(3+n, []byte(text))
		}
		if err := w.insert.Run(); err != nil {
			return fmt.Errorf("append event %d: %w", e.Seq, err)
		}
	}
	return nil
}

// appendEvents adds events that come with what else has changed. There is no
// statement anywhere that changes or removes one.
func appendEvents(tx *gorm.DB, events []fleet.Event) error {
	if len(events) == 0 {
		return nil
	}
	rows := make([]eventRow, 0, len(events))
	for _, e := range events {
		rows = append(rows, eventRow{
			Seq: e.Seq, At: toNano(e.At), Type: string(e.Type), Node: string(e.Node),
			Pool: string(e.Pool), Run: string(e.Run), Actor: e.Actor, Text: e.Text,
		})
	}
	return tx.CreateInBatches(rows, batchRows).Error
}

// Events returns at most limit events that follow the one with number since,
// oldest first.
func (s *Store) Events(ctx context.Context, since int64, limit int) ([]fleet.Event, error) {
	var rows []eventRow
	err := s.read.WithContext(ctx).Where("seq > ?", since).Order("seq").Limit(limit).Find(&rows).Error
	if err != nil {
		return nil, s.fault("read events", err)
	}
	events := make([]fleet.Event, 0, len(rows))
	for _, r := range rows {
		events = append(events, fleet.Event{
			Seq: r.Seq, At: fromNano(r.At), Type: fleet.EventType(r.Type), Node: fleet.NodeID(r.Node),
			Pool: fleet.PoolName(r.Pool), Run: fleet.RunID(r.Run), Actor: r.Actor, Text: r.Text,
		})
	}
	return events, nil
}
